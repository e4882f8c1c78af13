"""The whole system as processes of its own, for tests that drive it from the command line."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from docker import DockerClient

from queue_runner.testing.servers.ports import free_port
from queue_runner.workers.runtimes.docker import leftovers

PROGRAM = str(Path(sys.executable).with_name("queue-runner"))
T = TypeVar("T")


def eventually(probe: Callable[[], T | None], within_s: float = 30.0) -> T:
    """The first true value of `probe`; fails with the last one seen."""
    last: T | None = None
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if last := probe():
            return last
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s} s; last seen: {last!r}")


class System:
    """Runs `queue-runner` commands in `folder` with the environment of one system."""

    def __init__(self, folder: Path, broker: str | None = None) -> None:
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        clean = {key: value for key, value in os.environ.items() if "QUEUE_RUNNER" not in key}
        self.env = {**clean, "XDG_DATA_HOME": str(folder / "data"), "COLUMNS": "200"}
        self.env["XDG_CONFIG_HOME"] = str(folder / "config")
        # what a test does not ask for does not depend on the images that an engine has
        self.env["QUEUE_RUNNER_RUNTIME"] = "process"
        if broker is not None:
            (folder / "token").write_text(uuid.uuid4().hex)
            self.env |= {
                "QUEUE_RUNNER_BROKER": broker,
                "QUEUE_RUNNER_COLLECTOR": f"http://127.0.0.1:{free_port()}",
                "QUEUE_RUNNER_TOKEN_FILE": str(folder / "token"),
                "QUEUE_RUNNER_STORE": (folder / "store").as_uri(),
            }

    def call(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *arguments],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def ok(self, *arguments: str, timeout_s: float = 120) -> str:
        done = self.call(*arguments, timeout_s=timeout_s)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "--json"))

    def popen(self, *arguments: str) -> subprocess.Popen[bytes]:
        # not a pipe, which nobody would read
        with (self.folder / "output.log").open("ab") as out:
            return subprocess.Popen(
                [PROGRAM, *arguments], cwd=self.folder, env=self.env, stdout=out, stderr=out
            )

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = self.folder / f"{name}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                [PROGRAM, *arguments], cwd=self.folder, env=self.env, stdout=out, stderr=out
            )
        self.daemons[name] = process
        return process

    def start_collector(self, database: str | None = None) -> None:
        self.launch_collector(database)
        eventually(lambda: self.call("status").returncode == 0, within_s=120)

    def launch_collector(self, database: str | None = None) -> None:
        """Start it, and do not wait until it answers."""
        address = self.env["QUEUE_RUNNER_COLLECTOR"].removeprefix("http://")
        database = database or str(self.folder / "collector.sqlite")
        self.start("collector", "collector", "--listen", address, "--database", database)

    def start_worker(self, name: str = "worker", *options: str) -> subprocess.Popen[bytes]:
        scratch = str(self.folder / "scratch")
        return self.start(name, "worker", "--name", name, "--scratch", scratch, *options)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """Every daemon drains and exits 0; what does not is a failure that shows its log."""
        for process in reversed(self.daemons.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for name, process in self.daemons.items():
            try:
                code = process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                raise AssertionError(f"{name} did not drain:\n{self.log(name)[-3000:]}") from None
            assert code in (0, -signal.SIGKILL), f"{name} exited {code}:\n{self.log(name)[-3000:]}"


@contextmanager
def running_system(folder: Path, broker: str, *worker_options: str) -> Iterator[System]:
    system = System(folder, broker)
    try:
        system.start_collector()
        system.start_worker("worker", *worker_options)
        yield system
    finally:
        system.stop()


def study_folder(system: System, study: str, **files: str) -> Path:
    """Write a study and its files; returns the study file."""
    root = system.folder / "study"
    root.mkdir(exist_ok=True)
    (root / "study.yaml").write_text(study)
    for name, text in files.items():
        path = root / re.sub("__", ".", name)
        path.write_text(text)
        path.chmod(0o755)
    return root / "study.yaml"


#: Two short jobs in a folder with `job.sh`.
SLEEPER = """\
study: sleeper
kind: command
parameters: {x: [1, 2]}
command: {files: ., run: [./job.sh, "{x}"]}
measure: {log: {y: 'y = (\\S+)'}}
"""


def docker_worker(system: System, name: str = "worker", *options: str) -> subprocess.Popen[bytes]:
    docker = ("--cores", "2", "--runtime", "docker", "--lease", "5")
    return system.start_worker(name, *docker, *options)


def containers_of(engine: DockerClient, system: System, study: str, *labels: str) -> list[Any]:
    """Containers of a study's jobs. Equal studies of tests beside this one have equal names, but
    other folders."""
    wanted = [leftovers.OWNER, f"queue-runner.study={study}", *labels]
    found = engine.containers.list(all=True, filters={"label": wanted}, ignore_removed=True)
    ours = f"{system.folder}/"
    return [each for each in found if each.labels[leftovers.OWNER].startswith(ours)]


EXAMPLES = Path(__file__).parents[2] / "examples"


def short_channel(folder: Path) -> Path:
    """examples/pitzdaily with one speed and a few iterations; returns the study file."""
    root = Path(shutil.copytree(EXAMPLES / "pitzdaily", folder / "channel"))
    study, control = root / "study.yaml", root / "case/system/controlDict"
    study.write_text(re.sub(r"speed: \[.*?\]", "speed: [5]", study.read_text()))
    control.write_text(
        re.sub(r"(endTime|writeInterval)(\s+)\d+;", r"\1\g<2>10;", control.read_text())
    )
    return study


#: What depends on the machine's mood, not on the study. RabbitMQ's attempts are an upper bound.
_VARIES = {"attempt", "wall_s", "worker", "job", "execution_time", "clock_time"}
Table = list[dict[str, str]]
Tables = dict[str, Table]


def embedded_tables(folder: Path) -> Tables:
    """What two of the examples come to with `run`."""
    system = System(folder)
    tables = {}
    for name in ("cavity", "mpi-kernels"):
        system.ok("run", str(EXAMPLES / name / "study.yaml"), timeout_s=200)
        tables[name] = steady(system.ok("results", "--format", "csv"))
        assert len(tables[name]) >= 6
    return tables


def submitted_table(system: System, study: Path) -> Table:
    """The rows of a study's table, without what may differ between two runs of it."""
    done = system.call("submit", str(study), "--wait", timeout_s=200)
    failed = system.json("results", "--state", "failed")
    why = [system.ok("logs", row["job"]) for row in failed[:3]]
    assert done.returncode == 0, "\n".join([done.stderr, *why])
    return steady(system.ok("results", "--format", "csv"))


def steady(text: str) -> Table:
    return [
        {
            name: value
            for name, value in row.items()
            if name not in _VARIES and not name.startswith("time_")
        }
        for row in csv.DictReader(io.StringIO(text))
    ]
