"""Celery: prefork workers, late acknowledgement; over RabbitMQ a quorum queue and confirmed publishing."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from celery import Celery
from celery.result import AsyncResult

from measure import tasks
from measure.contender import Place
from measure.peers.base import Peer

_RESULT_S = 120.0
#: Messages a process fetches ahead; Celery's guide says 50 to 150 for short tasks.
_PREFETCH = 64


def _make_app() -> Celery:
    broker = os.environ["BENCH_BROKER"]
    over_amqp = broker.startswith("amqp")
    app = Celery("bench", broker=broker, backend="rpc://" if over_amqp else broker)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=_PREFETCH,
        result_persistent=True,
        broker_connection_retry_on_startup=True,
    )
    if over_amqp:
        app.conf.update(
            task_default_queue_type="quorum",
            broker_transport_options={"confirm_publish": True},
        )
    return app


app = _make_app()
noop = app.task(tasks.noop, name="noop")
true = app.task(tasks.true, name="true")


class CeleryPeer(Peer):
    packages: ClassVar[Sequence[str]] = ("celery", "kombu", "amqp", "redis", "hiredis")

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._sent: list[AsyncResult] = []

    def start(self) -> None:
        options = [
            "--pool",
            "prefork",
            "--loglevel",
            "WARNING",
            "--without-gossip",
            "--without-mingle",
        ]
        command = [sys.executable, "-m", "celery", "-A", __name__, "worker", *options]
        self.spawn(*command, "--concurrency", str(self.place.processes))

    def submit(self, task: str, count: int) -> None:
        with app.producer_or_acquire() as producer:
            if task == "noop":
                sent = [noop.apply_async((i,), producer=producer) for i in range(count)]
            else:
                sent = [true.apply_async(producer=producer) for _ in range(count)]
        self._sent = sent

    def results(self) -> Sequence[Any]:
        # one after the other: a `ResultSet` looks every half second over Redis
        values = [each.get(timeout=_RESULT_S) for each in self._sent]
        return values
