"""The way of a lone job with nothing in it but its stations: by way of a broker from the client to a worker,
and from there to a collector, which commits the result to SQLite and tells the client.

As a queue with these stations can have it at best in Python: raw clients, one thread in each process, bodies
that nobody reads, and a socket for the answer. Persistent messages, acknowledged when what follows from them
is stored, as everywhere here.

`Promises` is the same way with what queue-runner promises besides: that nothing is sent which is done
already, for which the collector is asked; that the study is known, for which there is a second message; and
that a function harms no worker, for which it has a process of its own. Still nothing is in any of them.
"""

from __future__ import annotations

import itertools
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from measure.contender import Contender, Effort, Figures, Place, lone_jobs
from measure.limits.base import BODY

JOBS, RESULTS = "way-jobs", "way-results"
_WARM_UP = 20
#: All that a process needs to be one that calls functions.
_FUNCTION = "import os\nwhile job := os.read(0, 65536): os.write(1, job)"
_STUDY_BYTES, _UNKNOWN, _KNOWN = 8, b"0", b"1"

#: Run in the worker's process, with a broker's URL; in the collector's, with a port and a database besides.
Worker = Callable[[str], None]
Collector = Callable[[str, int, Path], None]


class Way(Contender):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.broker = os.environ.get("BENCH_BROKER", "")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self._processes: list[Any] = []

    @abstractmethod
    def stations(self) -> tuple[Worker, Collector]:
        """What runs in the processes of worker and collector."""

    @abstractmethod
    def connect(self) -> None:
        """To the broker, whose queues are there afterwards."""

    @abstractmethod
    def send(self) -> None:
        """A job, until it is stored."""

    def start(self) -> None:
        self.connect()
        worker, collector = self.stations()
        self.run(worker, self.broker)
        self.run(
            collector,
            self.broker,
            self.listener.getsockname()[1],
            self.place.folder / "way.sqlite",
        )
        self._answers, _ = self.listener.accept()

    def run(self, target: Callable[..., None], *arguments: object) -> None:
        """In a process of its own, until `stop`."""
        process = get_context("spawn").Process(target=target, args=arguments, daemon=True)
        process.start()
        self._processes.append(process)

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        self._answers.close()
        self.listener.close()

    def measure(self, workload: str, effort: Effort) -> Figures:
        for _ in range(_WARM_UP):
            self._one_s()
        return lone_jobs(self._one_s, effort)

    def _one_s(self) -> float:
        began = time.perf_counter()
        self.send()
        if self._answers.recv(len(BODY), socket.MSG_WAITALL) != BODY:
            raise RuntimeError("another answer came than was sent")
        return time.perf_counter() - began


class Collecting:
    """Results become rows, and are told then."""

    def __init__(self, port: int, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        # as the collector has it; see docs/decisions/told-before-flushed.md
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute("CREATE TABLE result (number INTEGER PRIMARY KEY, body BLOB)")
        self._database.execute("CREATE TABLE study (id BLOB PRIMARY KEY)")
        self._client = _connected(port)

    def take(self, body: bytes) -> None:
        if len(body) == _STUDY_BYTES:
            self._database.execute("INSERT INTO study VALUES (?)", (body,))
        else:
            self._database.execute("INSERT INTO result (body) VALUES (?)", (body,))
            self._client.sendall(body)


# -- promises --------------------------------------------------------------------------------------


class Promises(Way):
    """Mixed into the way over a broker."""

    @abstractmethod
    def tell(self, study: bytes) -> None:
        """The collector, of a study, until that is stored."""

    def start(self) -> None:
        super().start()
        self._questions, _ = self.listener.accept()
        self._studies = itertools.count(1)

    def stop(self) -> None:
        super().stop()
        self._questions.close()

    def send(self) -> None:
        study = next(self._studies).to_bytes(_STUDY_BYTES)
        self._questions.sendall(study)
        if self._questions.recv(1) != _UNKNOWN:
            raise RuntimeError("a study is known that was never sent")
        super().send()  # type: ignore[safe-super]  # the way's that this is mixed into
        self.tell(study)


@contextmanager
def function() -> Iterator[Callable[[bytes], bytes]]:
    """Call a function in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", _FUNCTION], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asks, answers = process.stdin.fileno(), process.stdout.fileno()

        def call(job: bytes) -> bytes:
            os.write(asks, job)
            return os.read(answers, len(job))

        yield call


def answering(port: int, path: Path) -> None:
    """Tell the client which studies are known, in a thread."""
    threading.Thread(target=_answer, args=(_connected(port), path), daemon=True).start()


def _answer(asking: socket.socket, path: Path) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    while study := asking.recv(_STUDY_BYTES, socket.MSG_WAITALL):
        row = database.execute("SELECT 1 FROM study WHERE id = ?", (study,)).fetchone()
        asking.sendall(_UNKNOWN if row is None else _KNOWN)


def _connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
