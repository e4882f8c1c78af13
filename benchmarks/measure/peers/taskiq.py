"""TaskIQ: a Redis stream, or a RabbitMQ quorum queue; results in Redis; acknowledged when they are saved."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from taskiq import AsyncBroker
from taskiq_aio_pika import AioPikaBroker
from taskiq_aio_pika.queue import Queue, QueueType
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from measure import tasks
from measure.contender import Place
from measure.peers.base import Peer

_RESULT_S = 120.0
_POLL_S = 0.0005
#: Requests that are under way at a time.
_TOGETHER = 100


def _make_broker() -> AsyncBroker:
    url = os.environ["BENCH_BROKER"]
    results: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend(os.environ["BENCH_RESULTS"])
    if url.startswith("amqp"):
        queue = Queue(name="bench", type=QueueType.QUORUM)
        return AioPikaBroker(url, qos=_TOGETHER, task_queues=[queue]).with_result_backend(results)
    return RedisStreamBroker(url).with_result_backend(results)


broker = _make_broker()


@broker.task(task_name="noop")
async def noop(x: int) -> dict[str, int]:
    return tasks.noop(x)


@broker.task(task_name="true")
async def true() -> int:
    return tasks.true()


class TaskiqPeer(Peer):
    packages: ClassVar[Sequence[str]] = (
        "taskiq", "taskiq-redis", "taskiq-aio-pika", "aio-pika", "uvloop", "redis", "hiredis",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        import uvloop

        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._sent: list[Any] = []

    def start(self) -> None:
        options = ["--workers", str(self.place.processes), "--log-level", "ERROR"]
        acknowledge = ["--ack-type", "when_saved"]
        self.spawn(
            sys.executable, "-m", "taskiq", "worker", f"{__name__}:broker", *options, *acknowledge
        )
        self._runner.run(broker.startup())

    def stop(self) -> None:
        self._runner.run(broker.shutdown())
        self._runner.close()
        super().stop()

    def submit(self, task: str, count: int) -> None:
        self._runner.run(self._submit(task, count))

    async def _submit(self, task: str, count: int) -> None:
        self._sent = []
        for first in range(0, count, _TOGETHER):
            some = range(first, min(count, first + _TOGETHER))
            kicked = (noop.kiq(i) if task == "noop" else true.kiq() for i in some)
            self._sent += await asyncio.gather(*kicked)

    def results(self) -> Sequence[Any]:
        return self._runner.run(self._results())

    async def _results(self) -> Sequence[Any]:
        values: list[Any] = []
        for first in range(0, len(self._sent), _TOGETHER):
            some = self._sent[first : first + _TOGETHER]
            waits = (each.wait_result(check_interval=_POLL_S, timeout=_RESULT_S) for each in some)
            values += [each.return_value for each in await asyncio.gather(*waits)]
        return values
