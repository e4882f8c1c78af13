"""Client, collector and worker that share nothing but the network; stores that go away; fetch and gc."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from queue_runner.store import open_store
from tests.integration.system import PROGRAM, System, eventually, study_folder

STUDY = """\
study: shelf
kind: command
parameters: {x: [1, 2, 3]}
command:
  files: case
  steps:
    - [mkdir, -p, out/deep]
    - [cp, input, "out/deep/a file {x}"]
    - [sh, -c, "echo {x} >> 'out/deep/a file {x}'; echo done"]
keep: ["out/**"]
"""


class Apart(System):
    """Every process sees its own folder only: the others' are covered by an empty one."""

    PLACES = ("client", "head", "node")

    def __init__(self, folder: Path, broker: str) -> None:
        super().__init__(folder, broker)
        del self.env["QUEUE_RUNNER_STORE"]
        for place in self.PLACES:
            (folder / place).mkdir()

    def command(self, place: str, *arguments: str) -> list[str]:
        others = [str(self.folder / other) for other in self.PLACES if other != place]
        cover = "".join(f'mount -t tmpfs none "${n}" && ' for n in range(1, len(others) + 1))
        script = f'{cover}shift {len(others)} && cd "$1" && shift && exec "$@"'
        apart = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "-r"]
        own = str(self.folder / place)
        return [*apart, "sh", "-c", script, "sh", *others, own, PROGRAM, *arguments]

    def environment(self, place: str) -> dict[str, str]:
        own = self.folder / place
        token = own / "token"
        token.write_text((self.folder / "token").read_text())
        return {
            **self.env,
            "XDG_DATA_HOME": str(own / "data"),
            "XDG_CONFIG_HOME": str(own / "config"),
            "QUEUE_RUNNER_TOKEN_FILE": str(token),
        }

    def start_in(self, place: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{place}.log").open("ab") as out:
            process = subprocess.Popen(
                self.command(place, *arguments), env=self.environment(place), stdout=out, stderr=out
            )
        self.daemons[place] = process
        return process

    def call_in(self, place: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(place, *arguments),
            env=self.environment(place),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def start_head(self) -> None:
        address = self.env["QUEUE_RUNNER_COLLECTOR"].removeprefix("http://")
        self.start_in("head", "collector", "--listen", address, "--database", "c.sqlite")
        eventually(lambda: self.call_in("client", "status").returncode == 0)


@pytest.fixture
def apart(tmp_path: Path, zeromq_url: str) -> Iterator[Apart]:
    system = Apart(tmp_path, zeromq_url)
    try:
        yield system
    finally:
        system.stop()


def write_study(folder: Path) -> None:
    (folder / "case").mkdir()
    (folder / "case" / "input").write_text("from the template\n")
    (folder / "study.yaml").write_text(STUDY)


def test_no_shared_file_system_is_needed(apart: Apart) -> None:
    write_study(apart.folder / "client")
    seen = apart.call_in("client", "check", str(apart.folder / "node" / "x"))
    assert seen.returncode == 2
    apart.start_head()
    apart.start_in("node", "worker", "--scratch", "scratch", "--cores", "2")
    submitted = apart.call_in("client", "submit", "study.yaml", "--wait")
    assert submitted.returncode == 0, submitted.stderr + apart.log("node")
    fetched = apart.call_in("client", "fetch", "shelf", "-o", "back", "--match", "out/*")
    assert fetched.returncode == 0, fetched.stderr
    assert "3 files" in fetched.stdout
    found = sorted((apart.folder / "client" / "back").rglob("a file *"))
    assert [path.name for path in found] == ["a file 1", "a file 2", "a file 3"]
    assert found[0].parent.name == "deep"
    assert found[0].read_text() == "from the template\n1\n"
    # nothing of the client's or the head's came to be on the node but what HTTP brought
    assert not list((apart.folder / "node").rglob("store"))
    assert list((apart.folder / "head" / "store").glob("??/*"))


@pytest.fixture
def system(tmp_path: Path, zeromq_url: str) -> Iterator[System]:
    opened = System(tmp_path, zeromq_url)
    del opened.env["QUEUE_RUNNER_STORE"]
    try:
        opened.start_collector()
        yield opened
    finally:
        opened.stop()


def kill_collector(system: System) -> None:
    collector = system.daemons.pop("collector")
    collector.send_signal(signal.SIGKILL)
    collector.wait()


def test_a_finished_job_waits_for_its_store(system: System) -> None:
    gate, done = system.folder / "gate", system.folder / "done"
    script = f"while [ ! -e {gate} ]; do sleep 0.05; done; echo said; touch {done}"
    path = study_folder(
        system, f'study: s\nkind: command\nparameters: {{x: [1]}}\ncommand:\n  run: [sh, -c, "{script}"]\n'
    )  # fmt: skip
    system.ok("submit", str(path))
    system.start_worker()
    eventually(lambda: system.json("status")["studies"][0]["running"] == 1)
    kill_collector(system)
    gate.touch()
    eventually(done.exists)
    eventually(lambda: "waits for its store" in system.log("worker"))
    system.start_collector()
    system.ok("watch", "s")
    (row,) = system.json("results", "s")
    assert (row["state"], row["attempt"]) == ("succeeded", 1)
    assert "said" in system.ok("logs", row["job"], "--full")


def test_others_run_while_finished_jobs_wait_for_their_store_but_not_ever_more(
    system: System,
) -> None:
    gate = system.folder / "gate"
    began = {number: system.folder / f"began-{number}" for number in (1, 2, 3)}
    script = (
        f"touch {system.folder}/began-{{x}}; while [ ! -e {gate} ]; do sleep 0.05; done;"
        " echo {x} >out; echo said"
    )
    path = study_folder(
        system,
        "study: s\nkind: command\nparameters: {x: [1, 2, 3]}\nkeep: [out]\n"
        f'command:\n  run: [sh, -c, "{script}"]\n',
    )
    system.ok("submit", str(path))
    system.start_worker("worker", "--cores", "1")
    eventually(began[1].exists)
    kill_collector(system)
    gate.touch()
    eventually(began[2].exists)
    eventually(lambda: system.log("worker").count("waits for its store") >= 2)
    # one is ending, and the other one has the place yet
    assert not began[3].exists()
    system.start_collector()
    eventually(lambda: system.json("status")["studies"][0]["succeeded"] == 3, within_s=60)
    assert {row["attempt"] for row in system.json("results", "s")} == {1}


def test_a_job_whose_bundle_cannot_be_fetched_is_given_back(system: System) -> None:
    folder = system.folder / "study"
    folder.mkdir()
    write_study(folder)
    system.ok("submit", str(folder / "study.yaml"))
    # what a killed collector holds comes again only when its lease lapses
    eventually(lambda: system.json("status")["studies"])
    kill_collector(system)
    system.start_worker()
    eventually(lambda: "jobs wait for the store" in system.log("worker"))
    eventually(lambda: "is given back" in system.log("worker"))
    system.start_collector()
    eventually(lambda: system.json("status")["studies"][0]["succeeded"] == 3, within_s=60)
    assert {row["attempt"] for row in system.json("results", "shelf")} == {1}


def test_a_stopped_worker_does_not_wait_for_its_store(system: System) -> None:
    done = system.folder / "done"
    script = f"echo x; touch {done}; while [ ! -e {done}.go ]; do sleep 0.05; done"
    path = study_folder(
        system,
        f"study: s\nkind: command\nparameters: {{x: [1]}}\ncommand:\n  run: [sh, -c, '{script}']\n",
    )
    system.ok("submit", str(path))
    worker = system.start_worker("worker", "--grace", "0")
    eventually(done.exists)
    kill_collector(system)
    Path(f"{done}.go").touch()
    eventually(lambda: "waits for its store" in system.log("worker"))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    system.start_collector()
    system.start_worker("another")
    eventually(lambda: system.json("status")["studies"][0]["succeeded"] == 1, within_s=60)


def test_a_wrong_token_ends_a_worker_at_once(system: System) -> None:
    wrong = system.folder / "wrong"
    wrong.write_text("wrong")
    done = system.call("worker", "--token-file", str(wrong), "--scratch", str(system.folder / "s"))
    assert done.returncode == 4
    assert "wants its token" in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def limited(folder: Path, broker: str, *options: str) -> Iterator[System]:
    system = System(folder, broker)
    del system.env["QUEUE_RUNNER_STORE"]
    address = system.env["QUEUE_RUNNER_COLLECTOR"].removeprefix("http://")
    database = str(folder / "c.sqlite")
    system.start("collector", "collector", "--listen", address, "--database", database, *options)
    try:
        eventually(lambda: system.call("status").returncode == 0)
        yield system
    finally:
        system.stop()


def test_a_file_over_the_limit_fails_its_job(tmp_path: Path, zeromq_url: str) -> None:
    with limited(tmp_path, zeromq_url, "--store-max-file", "1 kB") as system:
        path = study_folder(
            system,
            "study: s\nkind: command\nparameters: {n: [10, 2000]}\n"
            "command:\n  run: [head, -c, '{n}', /dev/zero]\n",
        )
        system.start_worker()
        done = system.call("submit", str(path), "--wait")
        assert done.returncode == 1, done.stderr
        small, large = system.json("results", "s")
        assert (small["reason"], large["reason"]) == (None, "store")
        assert "--store-max-file" in system.ok("logs", large["job"])
        assert "1 objects" in system.ok("store", "status")


def test_a_template_over_the_quota_is_told_to_who_submits(tmp_path: Path, zeromq_url: str) -> None:
    with limited(tmp_path, zeromq_url, "--store-quota", "1 kB") as system:
        folder = tmp_path / "study"
        folder.mkdir()
        write_study(folder)
        done = system.call("submit", str(folder / "study.yaml"))
        assert done.returncode == 2
        assert "quota of 1000 bytes" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_killed_fetch_goes_on(system: System) -> None:
    size_bytes = 64 * 1024 * 1024
    path = study_folder(
        system,
        "study: s\nkind: command\nparameters: {x: [1]}\nkeep: [big]\n"
        f"command:\n  run: [truncate, -s, '{size_bytes}', big]\n",
    )
    system.start_worker()
    system.ok("submit", str(path), "--wait")
    out = system.folder / "out"
    partial = f".{hashlib.sha256(bytes(size_bytes)).hexdigest()[:32]}.part"
    fetching = system.popen("fetch", "s", "-o", str(out))
    (half,) = eventually(lambda: list(out.rglob(partial)))
    eventually(lambda: _size(half) > 1_000_000)
    fetching.kill()
    fetching.wait()
    told = system.ok("fetch", "s", "-o", str(out))
    assert "1 files, 64.0 MiB" in told
    (big,) = out.rglob("big")
    assert big.read_bytes() == bytes(size_bytes)
    assert not list(out.rglob("*.part"))
    assert "(1 were there)" in system.ok("fetch", "s", "-o", str(out))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 1 << 60


def test_gc_keeps_what_studies_need(system: System) -> None:
    folder = system.folder / "study"
    folder.mkdir()
    write_study(folder)
    system.start_worker()
    system.ok("submit", str(folder / "study.yaml"), "--wait")
    store = system.folder / "store"
    orphan = hashlib.sha256(b"orphan").hexdigest()
    (store / orphan[:2]).mkdir(exist_ok=True)
    (store / orphan[:2] / orphan).write_bytes(b"orphan")
    before = len(list(store.glob("??/*")))
    assert "removed 0 of" in system.ok("store", "gc")
    long_ago = time.time() - 2 * 86400
    for path in store.glob("??/*"):
        os.utime(path, (long_ago, long_ago))
    assert "would remove 1 of" in system.ok("store", "gc", "--dry-run")
    assert system.json("store", "gc", "--older-than", "1h")["removed"] == 1
    assert len(list(store.glob("??/*"))) == before - 1
    system.ok("fetch", "shelf", "-o", str(system.folder / "back"))
    assert system.call("store", "gc", "--older-than", "soon").returncode == 2


def test_runs_have_a_store_of_their_own(tmp_path: Path) -> None:
    system = System(tmp_path)
    write_study(tmp_path)
    system.ok("run", "study.yaml", "--quiet")
    assert "6 files" in system.ok("fetch", "shelf")
    assert len(list((tmp_path / "artifacts").rglob("a file *"))) == 3
    (job,) = [row["job"] for row in system.json("results") if row["x"] == 2]
    assert "2 files" in system.ok("fetch", job, "-o", "one")
    assert "removed 0 of" in system.ok("store", "gc", "--older-than", "0")
    nothing = system.call("fetch", "nosuch")
    assert nothing.returncode == 2
    assert "neither a study nor a finished job" in nothing.stderr


def test_an_upload_that_the_collectors_death_broke_goes_on(system: System, tmp_path: Path) -> None:
    """kill -9 in the middle: nothing is half visible, and what was sent is not sent again."""
    big = tmp_path / "big"
    with big.open("wb") as out:
        out.truncate(256 * 1024 * 1024)
    token = (system.folder / "token").read_text()
    store = open_store(system.env["QUEUE_RUNNER_COLLECTOR"], token)
    uploads = system.folder / "store" / "uploads"
    kept: list[str] = []

    def keep() -> None:
        with big.open("rb") as source:
            kept.append(store.put(source)[0])

    thread = threading.Thread(target=keep)
    thread.start()
    (half,) = eventually(lambda: list(uploads.glob("*.up")))
    eventually(lambda: half.stat().st_size > 8_000_000)
    kill_collector(system)
    sent = half.stat().st_size
    assert sent < 256 * 1024 * 1024
    assert not list((system.folder / "store").glob("??/*"))
    system.start_collector()
    thread.join()
    assert store.size_bytes(kept[0]) == 256 * 1024 * 1024
    assert not list(uploads.iterdir())
    store.close()


def test_a_collector_cannot_be_its_own_store(tmp_path: Path, zeromq_url: str) -> None:
    system = System(tmp_path, zeromq_url)
    done = system.call("collector", "--store", "http://127.0.0.1:1", "--database", "c.sqlite")
    assert done.returncode == 2
    assert "cannot be a collector's" in done.stderr
