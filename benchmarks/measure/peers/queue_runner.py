"""queue-runner as a user has it: its daemons as processes, submitted to by its Python API."""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from measure import cases, tasks
from measure.contender import Effort, Figures, Place, lone_jobs
from measure.images import IMAGE
from measure.peers.base import Peer
from queue_runner import Client, Study
from queue_runner.client.client import StudyHandle
from queue_runner.errors import TryLater
from queue_runner.model import Result, State

PROGRAM = str(Path(sys.executable).with_name("queue-runner"))
_RESULT_S = 120.0
_READY_S = 60.0
_POLL_S = 0.05
_WARM_UP = 20
_TASKS = Path(tasks.__file__)


class QueueRunnerPeer(Peer):
    """Its broker is `servers["broker"]`; where there is none, a ZeroMQ server of its own."""

    packages: ClassVar[Sequence[str]] = (
        "queue-runner", "msgpack", "pika", "pyzmq", "redis", "hiredis", "SQLAlchemy", "urllib3",
    )  # fmt: skip
    worker_options: ClassVar[Sequence[str]] = ()

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._numbers = itertools.count()
        self._handle: StudyHandle | None = None
        self._task = ""

    def start(self) -> None:
        os.environ.update(environment(self.place))
        folder = self.place.folder
        if "broker" not in self.place.servers:
            journal = ["--journal", str(folder / "broker.sqlite")]
            self.run("broker", "--listen", os.environ["QUEUE_RUNNER_BROKER"], *journal)
        address = os.environ["QUEUE_RUNNER_COLLECTOR"].removeprefix("http://")
        database = ["--database", str(folder / "collector.sqlite")]
        self.run("collector", "--listen", address, *database)
        cores = ["--cores", str(self.place.processes)]
        self.run(
            "worker", *cores, "--scratch", str(self.place.work / "scratch"), *self.worker_options
        )
        self.client = Client()
        self._await_collector()

    def run(self, daemon: str, *arguments: str) -> None:
        self.spawn(PROGRAM, daemon, *arguments, "--log-level", "warning")

    def stop(self) -> None:
        self.client.close()
        super().stop()

    def _await_collector(self) -> None:
        end = time.monotonic() + _READY_S
        while True:
            self.check()
            try:
                self.client.studies()
            except TryLater:
                if time.monotonic() > end:
                    raise
                time.sleep(_POLL_S)
            else:
                return

    def study(self, task: str, count: int) -> Study:
        """A study of its own for every submission: the same one again would be done already."""
        return Study(name=f"{task}-{next(self._numbers)}", **self.fields(task, count))

    def fields(self, task: str, count: int) -> Mapping[str, Any]:
        points = {"x": {"range": {"from": 0, "to": count - 1, "step": 1}} if count > 1 else [0]}
        if task == "noop":
            function = {"files": str(_folder_with_tasks(self.place.folder)), "call": "tasks:noop"}
            return {"kind": "python", "parameters": points, "python": function}
        if task == "sweep":
            return cases.sweep_fields(self.place.folder, count)
        if task == "mpi":
            return cases.kernel_fields(count)
        run = ["sleep", "0.2"] if task == "pause" else [tasks.TRUE]
        return {"kind": "command", "parameters": points, "command": {"run": run}}

    def _latency(self, task: str, effort: Effort) -> Figures:
        """Of points of one study: what peers call is known to their workers before, too."""
        fields = {name: each for name, each in self.fields(task, 1).items() if name != "parameters"}
        handle = self.client.submit(Study(name=f"{task}-open", open=["x"], **fields))
        numbers = itertools.count()

        def one_s() -> float:
            number = next(numbers)
            began = time.perf_counter()
            result = _succeeded(handle.evaluate({"x": number}, _RESULT_S))
            took = time.perf_counter() - began
            if result.metrics["y"] != number:
                raise RuntimeError(f"{task}: another result came than that of job {number}")
            return took

        for _ in range(_WARM_UP):
            one_s()
        return lone_jobs(one_s, effort)

    def submit(self, task: str, count: int) -> None:
        self._task = task
        self._handle = self.client.submit(self.study(task, count))

    def results(self) -> Sequence[object]:
        assert self._handle is not None
        completed = map(_succeeded, self._handle.as_completed(_RESULT_S))
        return [dict(result.metrics) if self._task == "noop" else 0 for result in completed]


def environment(place: Place) -> dict[str, str]:
    """Where all parts of the system find each other."""
    token = place.folder / "token"
    if not token.exists():
        token.write_text(secrets.token_hex(16))
    return {
        "QUEUE_RUNNER_BROKER": place.servers.get("broker") or f"zmq+tcp://127.0.0.1:{free_port()}",
        "QUEUE_RUNNER_COLLECTOR": f"http://127.0.0.1:{free_port()}",
        "QUEUE_RUNNER_STORE": (place.folder / "store").as_uri(),
        "QUEUE_RUNNER_TOKEN_FILE": str(token),
        "XDG_DATA_HOME": str(place.folder),
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def _folder_with_tasks(folder: Path) -> Path:
    """The module that all peers run, and nothing else: it travels to the workers."""
    template = folder / "tasks"
    template.mkdir(exist_ok=True)
    copy = template / _TASKS.name
    if not copy.exists():
        copy.write_text(_TASKS.read_text())
    return template


def _succeeded(result: Result) -> Result:
    if result.state is not State.SUCCEEDED:
        raise RuntimeError(f"{result.job_id}: {result.state}, {result.failure}")
    return result


class StudyEachPeer(QueueRunnerPeer):
    """Each lone job is a study of its own."""

    def _latency(self, task: str, effort: Effort) -> Figures:
        return Peer._latency(self, task, effort)


class ContainerPeer(QueueRunnerPeer):
    """Every job in a container of its own."""

    worker_options: ClassVar[Sequence[str]] = ("--runtime", "docker", "--image", IMAGE)


class WarmContainerPeer(QueueRunnerPeer):
    """Every job in the container of its study."""

    worker_options: ClassVar[Sequence[str]] = (*ContainerPeer.worker_options, "--warm")
