"""The whole path over secured transports, and what becomes of their secrets: nothing anywhere shows one."""

from __future__ import annotations

import json
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from queue_runner.images.engine import open_engine
from queue_runner.signing.file import read_key_file
from queue_runner.testing.servers.ports import free_port
from tests.integration.secured import PASSWORD, Https, start_curve, start_secured
from tests.integration.system import PROGRAM, containers_of, eventually, study_folder

#: In the environment of the daemons, as others' secrets are.
FOREIGN = "not-to-be-passed-on"

WORKER = ("worker", "--log-level", "debug", "--name", "other", "--scratch", "elsewhere")
COLLECTOR = (
    "collector",
    "--log-level",
    "debug",
    "--listen",
    "127.0.0.1:0",
    "--database",
    "other.db",
)
DOCTOR = ("doctor", "--json")
HEALTH = ("health", "broker")

COMMAND = """\
study: nosy
kind: command
parameters: {x: [1, 2]}
command: {files: ., run: [./job.sh, "{x}"]}
measure: {log: {y: 'y = (\\S+)'}}
keep: ["*.txt"]
"""
SCRIPT = """\
#!/bin/sh
env | tee environment.txt
cat /proc/self/cmdline >cmdline.txt
[ "$1" != 2 ] || { echo "no luck" >&2; exit 9; }
echo "y = $1"
"""
PYTHON = """\
study: nosy-python
kind: python
parameters: {x: [1, 2]}
python: {files: ., call: "nosy:look"}
keep: ["*.txt"]
"""
MODULE = """\
import os, pathlib
def look(x):
    pathlib.Path("environment.txt").write_text("\\n".join(f"{k}={v}" for k, v in os.environ.items()))
    return {"y": x}
"""


class Guarded(Https):
    """A system with secrets in files only. `secrets`: by what they are; `home`: files that may hold them."""

    def __init__(self, folder: Path, url: str, secret: Mapping[str, str]) -> None:
        self.home = folder / "secrets"
        self.home.mkdir()
        broker, keys = self.home / "broker", self.home / "keys.json"
        broker.write_text(url)
        token = secrets.token_hex(12)
        (self.home / "token").write_text(token)
        env = {
            "QUEUE_RUNNER_BROKER": None,
            "QUEUE_RUNNER_BROKER_FILE": str(broker),
            "QUEUE_RUNNER_TOKEN_FILE": str(self.home / "token"),
            "QUEUE_RUNNER_KEYS_FILE": str(keys),
            "PGPASSWORD": FOREIGN,
            "AWS_SECRET_ACCESS_KEY": FOREIGN,
        }
        self.secrets = {**secret, "token": token}
        make = subprocess.run(
            [PROGRAM, "keys", "new", "--keys-file", str(keys)], capture_output=True, check=True
        )
        (key,) = read_key_file(keys).keys.values()
        assert key.secret is not None
        self.secrets["signing key"] = key.secret.hex()
        self.said = [make.stdout + make.stderr]
        super().__init__(folder, url, "server", env, "--log-level", "debug")

    def told(self, *arguments: str, code: int | None = 0, **env: str) -> str:
        """What a command says, with changes of its environment."""
        done = subprocess.run(
            [PROGRAM, *arguments], cwd=self.folder, env=self.env | env, capture_output=True,
            timeout=120, check=False,
        )  # fmt: skip
        self.said.append(done.stdout + done.stderr)
        text = (done.stdout + done.stderr).decode()
        assert code in (None, done.returncode), f"{arguments}: {done.returncode}\n{text}"
        assert "Traceback" not in text
        return text

    def shown_in(self, data: bytes) -> list[str]:
        """Which secrets are in there."""
        return [what for what, secret in self.secrets.items() if secret.encode() in data]


def _middle(key: Path) -> str:
    """A line of a PEM file, or of CURVE's: what nobody but its owner may see."""
    lines = key.read_text().splitlines()
    return lines[len(lines) // 2]


def _server(stack: ExitStack, kind: str, folder: Path) -> tuple[str, dict[str, str]]:
    """URL and secrets."""
    if kind == "zeromq":
        url = start_curve(stack, folder)
        return url, {
            f"CURVE {name}": _middle(folder / f"keys/{name}.key") for name in ("server", "member")
        }
    server = start_secured(stack, kind, folder)
    return server.trusted, {
        "password": PASSWORD,
        "client's key": _middle(server.certificates.folder / "client.key"),
    }


@contextmanager
def _guarded(kind: str, folder: Path) -> Iterator[Guarded]:
    with ExitStack() as stack:
        (folder / "broker").mkdir()
        (folder / "system").mkdir()
        url, secret = _server(stack, kind, folder / "broker")
        system = Guarded(folder / "system", url, secret)
        stack.callback(system.stop)
        yield system


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(kind, marks=pytest.mark.xdist_group(f"secured-{kind}"))
        for kind in ("rabbitmq", "redis", "zeromq")
    ],
)
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    with _guarded(request.param, tmp_path_factory.mktemp(request.param)) as system:
        system.start_worker("worker", "--log-level", "debug")
        yield system


class Watch:
    """Looks at the arguments of every process of this machine, again and again, while the block runs."""

    def __init__(self, look: Callable[[bytes], list[str]]) -> None:
        self.found: set[str] = set()
        self.daemons = 0
        self._look = look
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    arguments = process.read_bytes()
                except OSError:
                    continue  # it has ended
                self.daemons += b"queue-runner\0worker" in arguments
                self.found.update(f"{what}: {arguments!r}" for what in self._look(arguments))


def test_a_study_goes_all_the_way(guarded: Guarded) -> None:
    study = study_folder(guarded, COMMAND.replace("nosy", "path"), job__sh=SCRIPT)
    guarded.told("submit", str(study), "--wait", code=1)
    rows = json.loads(guarded.ok("results", "path", "--json"))
    assert [(row["x"], row["state"], row.get("y")) for row in rows] == [
        (1, "succeeded", 1), (2, "failed", None),
    ]  # fmt: skip
    guarded.told("fetch", "path", "--out", "fetched")
    kept = sorted(path.name for path in (guarded.folder / "fetched").rglob("*.txt"))
    assert kept == ["cmdline.txt"] * 2 + ["environment.txt"] * 2
    for queue in ("jobs.default", "results"):
        assert "no dead letters" in guarded.told("dead", queue)


def test_no_secret_is_shown_anywhere(guarded: Guarded) -> None:
    with Watch(guarded.shown_in) as watch:
        _succeed(guarded)
        _fail(guarded)
    assert watch.daemons > 10
    assert watch.found == set()
    assert [what for said in guarded.said for what in guarded.shown_in(said)] == []
    assert _shown_in_files(guarded) == []


def _succeed(system: Guarded) -> None:
    study = study_folder(system, COMMAND, job__sh=SCRIPT)
    system.told("submit", str(study), "--wait", "--json", code=1)
    (study.parent / "nosy.py").write_text(MODULE)
    study.write_text(PYTHON)
    system.told("submit", str(study), "--wait")
    first = json.loads(system.told("results", "nosy", "--json"))[0]["job"]
    for command in (
        ["status", "--json"], ["show", first, "--json"], ["logs", first], ["doctor"], DOCTOR, HEALTH,
        ["dead", "results"], ["keys", "list", "--json"], ["retry", "nosy"], ["cancel", "nosy"],
    ):  # fmt: skip
        system.told(*command, code=None)
    for name in ("nosy", "nosy-python"):
        system.told("fetch", name, "--out", f"fetched-{name}")
    found = list(system.folder.glob("fetched-*/**/environment.txt"))
    assert len(found) >= 3
    for path in found:
        _is_bare(path.read_text())


def _is_bare(environment: str) -> None:
    """What a job is told of the system that runs it, and nothing else."""
    names = [line.partition("=")[0] for line in environment.splitlines()]
    ours = {name for name in names if name.startswith("QUEUE_RUNNER")}
    assert ours <= {f"QUEUE_RUNNER_{name}" for name in ("JOB", "STUDY", "OWNER", "STEP", "IMAGE")}
    assert FOREIGN not in environment


def _fail(system: Guarded) -> None:
    """Commands and daemons that are refused, or reach nobody."""
    url = (system.home / "broker").read_text()
    at = url.partition("127.0.0.1:")[2].partition("/")[0].partition("?")[0]
    nowhere = url.replace(f":{at}", f":{free_port()}")
    # the ZeroMQ server hangs up twice before it is sure, which takes a busy machine its time
    plain = 4 if PASSWORD in url else None
    wrong: list[tuple[str, int | None, list[tuple[str, ...]]]] = [
        (nowhere, 3, [WORKER, COLLECTOR, DOCTOR]),
        (_plain(url), plain, [WORKER, DOCTOR]),
        (url.replace("://", "x://", 1), 2, [HEALTH]),
        (f"{url}&nonsense=1", 2, [COLLECTOR]),
        (url.replace(f":{at}", ":port"), 2, [HEALTH]),
        (url.replace("127.0.0.1", "127.0.0.1/", 1).replace("@", "/@"), 2, [HEALTH]),
    ]
    if PASSWORD in url:
        system.secrets["wrong password"] = PASSWORD[:-1]
        refused = [WORKER, COLLECTOR, HEALTH, ("dead", "results"), DOCTOR]
        wrong.append((url.replace(PASSWORD, PASSWORD[:-1]), 4, refused))
    # the three that reach nobody wait for 10 s: meanwhile the others are refused, one after the other
    with ThreadPoolExecutor(4) as pool:
        asked = []
        for number, (text, code, commands) in enumerate(wrong):
            path = system.home / f"broker-{number}"
            path.write_text(text)
            for command in commands:
                expected = 1 if command == DOCTOR else code
                ask = partial(system.told, code=expected, QUEUE_RUNNER_BROKER_FILE=str(path))
                asked.append(pool.submit(ask, *command))
        for each in asked:
            each.result()
    system.secrets["wrong token"] = system.secrets["token"][:-1]
    (system.home / "wrong").write_text(system.secrets["wrong token"])
    system.told("status", code=4, QUEUE_RUNNER_TOKEN_FILE=str(system.home / "wrong"))
    spoilt = system.home / "spoilt.json"
    spoilt.write_text((system.home / "keys.json").read_text()[:-5])
    spoilt.chmod(0o600)
    system.told(*WORKER, code=2, QUEUE_RUNNER_KEYS_FILE=str(spoilt))


def _plain(url: str) -> str:
    """Without encryption."""
    bare = url.replace("rediss:", "redis:").replace("amqps:", "amqp:")
    return bare.partition("?")[0]


def _shown_in_files(system: Guarded) -> list[str]:
    """All that the system has written: logs, database, store, scratch, the server's own log and journal."""
    held = {system.home, system.folder.parent / "broker/keys", system.certificates.folder}
    held.add(system.folder.parent / "broker/certificates")
    configured = {"password.conf", "rabbitmq.conf"}
    shown, seen = [], 0
    for path in system.folder.parent.rglob("*"):
        if not path.is_file() or held & set(path.parents) or path.name in configured:
            continue
        seen += 1
        shown += [f"{path}: {what}" for what in system.shown_in(path.read_bytes())]
    assert seen > 20
    return shown


@pytest.mark.containers
def test_no_secret_reaches_a_container(tmp_path: Path) -> None:
    with _guarded("zeromq", tmp_path) as system, open_engine() as engine:
        system.start_worker("worker", "--runtime", "docker", "--image", "queue-runner/base:latest")
        gate = "while [ ! -e go ]; do sleep 0.1; done\n"
        study = study_folder(system, COMMAND, job__sh=SCRIPT.replace("[ ", gate + "[ ", 1))
        system.told("submit", str(study))
        made = eventually(lambda: containers_of(engine, system, _id(system)), within_s=60)
        inspected = json.dumps([each.attrs for each in made])
        assert system.shown_in(inspected.encode()) == []
        assert FOREIGN not in inspected
        for each in made:
            _is_bare("\n".join(each.attrs["Config"]["Env"]))
        system.told("cancel", "nosy")


def _id(system: Guarded) -> str:
    studies: list[dict[str, Any]] = json.loads(system.ok("status", "--json"))["studies"]
    return str(studies[0]["id"])
