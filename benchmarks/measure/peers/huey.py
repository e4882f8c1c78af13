"""Huey over Redis. It takes a job off its list before the work: what a worker ran when it died is lost."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from huey import RedisHuey

from measure import tasks
from measure.contender import Place
from measure.peers.base import Peer

_RESULT_S = 120.0
_POLL_S = 0.0002
huey = RedisHuey("bench", url=os.environ["BENCH_BROKER"])
noop = huey.task()(tasks.noop)
true = huey.task()(tasks.true)


class HueyPeer(Peer):
    packages: ClassVar[Sequence[str]] = ("huey", "redis", "hiredis")

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._sent: list[Any] = []

    def start(self) -> None:
        consumer = [sys.executable, "-m", "huey.bin.huey_consumer", f"{__name__}.huey"]
        options = ["--worker-type", "process", "--workers", str(self.place.processes)]
        self.spawn(*consumer, *options, "--no-periodic", "--quiet")

    def submit(self, task: str, count: int) -> None:
        if task == "noop":
            self._sent = [noop(i) for i in range(count)]
        else:
            self._sent = [true() for _ in range(count)]

    def results(self) -> Sequence[Any]:
        return [self._value(each) for each in self._sent]

    def _value(self, result: Any) -> object:
        """Asked for again and again: its own waiting begins with a pause of 50 ms."""
        end = time.monotonic() + _RESULT_S
        while (value := result.get()) is None:
            if time.monotonic() > end:
                raise TimeoutError(f"{result}: nothing for {_RESULT_S:g} s")
            time.sleep(_POLL_S)
        return value
