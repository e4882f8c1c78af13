"""RQ: a pool of workers that do not fork for every job, which is its fastest form."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from redis import Redis
from rq import Queue
from rq.job import Job

from measure import tasks
from measure.contender import Place
from measure.peers.base import Peer

_RESULT_S = 120


class RqPeer(Peer):
    packages: ClassVar[Sequence[str]] = ("rq", "redis", "hiredis")

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._queue = Queue("bench", connection=Redis.from_url(os.environ["BENCH_BROKER"]))
        self._sent: list[Job] = []

    def start(self) -> None:
        options = ["--num-workers", str(self.place.processes), "--quiet"]
        kind = ["--worker-class", "rq.worker.SimpleWorker", "--url", os.environ["BENCH_BROKER"]]
        self.spawn(sys.executable, "-m", "rq.cli", "worker-pool", *options, *kind, "bench")

    def submit(self, task: str, count: int) -> None:
        function = getattr(tasks, task)
        arguments = [(i,) if task == "noop" else () for i in range(count)]
        self._sent = self._queue.enqueue_many(
            [Queue.prepare_data(function, each) for each in arguments]
        )

    def results(self) -> Sequence[Any]:
        return [_value(job) for job in self._sent]


def _value(job: Job) -> object:
    result = job.latest_result(timeout=_RESULT_S)
    if result is None or result.type != result.Type.SUCCESSFUL:
        raise RuntimeError(f"{job}: {result}")
    return result.return_value
