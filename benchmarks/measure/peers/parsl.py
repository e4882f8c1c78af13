"""Parsl's HighThroughputExecutor: an interchange with everything in memory; nothing survives its end."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, ClassVar

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

from measure import tasks
from measure.contender import Place
from measure.peers.base import Peer

_RESULT_S = 120.0

noop = parsl.python_app(tasks.noop, cache=False)
true = parsl.python_app(tasks.true, cache=False)


class ParslPeer(Peer):
    packages: ClassVar[Sequence[str]] = ("parsl", "pyzmq")

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._sent: list[Future[Any]] = []

    def start(self) -> None:
        executor = HighThroughputExecutor(
            label="bench",
            address="127.0.0.1",
            max_workers_per_node=self.place.processes,
            # as a busy site would: idle workers have their next task at hand
            prefetch_capacity=self.place.processes * 8,
            encrypted=False,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        folder = str(self.place.folder / "parsl")
        parsl.load(Config(executors=[executor], strategy="none", run_dir=folder))

    def stop(self) -> None:
        parsl.dfk().cleanup()

    def submit(self, task: str, count: int) -> None:
        if task == "noop":
            self._sent = [noop(i) for i in range(count)]
        else:
            self._sent = [true() for _ in range(count)]

    def results(self) -> Sequence[Any]:
        return [each.result(_RESULT_S) for each in self._sent]
