"""Dramatiq: results in Redis by its own middleware; it cannot ask for quorum queues: durable classic ones."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from measure import tasks
from measure.contender import Place
from measure.peers.base import Peer

_RESULT_MS = 120_000


def _make_broker() -> dramatiq.Broker:
    url = os.environ["BENCH_BROKER"]
    over_amqp = url.startswith("amqp")
    broker = RabbitmqBroker(url=url, confirm_delivery=True) if over_amqp else RedisBroker(url=url)
    broker.add_middleware(Results(backend=RedisBackend(url=os.environ["BENCH_RESULTS"])))
    dramatiq.set_broker(broker)
    return broker


broker = _make_broker()
noop = dramatiq.actor(tasks.noop, store_results=True)
true = dramatiq.actor(tasks.true, store_results=True)


class DramatiqPeer(Peer):
    packages: ClassVar[Sequence[str]] = ("dramatiq", "pika", "redis", "hiredis")

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._sent: list[Any] = []

    def start(self) -> None:
        # with its default of eight threads each: one would fetch two jobs at a time, a third as fast
        processes = ["--processes", str(self.place.processes)]
        self.spawn(sys.executable, "-m", "dramatiq", __name__, *processes)

    def submit(self, task: str, count: int) -> None:
        if task == "noop":
            self._sent = [noop.send(i) for i in range(count)]
        else:
            self._sent = [true.send() for _ in range(count)]

    def results(self) -> Sequence[Any]:
        return [each.get_result(block=True, timeout=_RESULT_MS) for each in self._sent]
