"""The way of a lone job over RabbitMQ, in quorum queues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pika

from measure.limits.base import BODY
from measure.limits.way import JOBS, RESULTS, Collecting, Collector, Way, Worker

_PERSISTENT = pika.BasicProperties(delivery_mode=2)


class _Consumer:
    """`take` is called with each message of a queue, and says whether that is over; else it is when what it
    has published is confirmed.
    """

    def __init__(self, url: str, queue: str, take: Callable[[bytes, Any], bool]) -> None:
        self._queue, self._take = queue, take
        self._connection = pika.SelectConnection(
            pika.URLParameters(url), on_open_callback=self._opened
        )

    def run(self) -> None:
        self._connection.ioloop.start()

    def _opened(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._consume)

    def _consume(self, channel: Any) -> None:
        channel.confirm_delivery(lambda _: self._acknowledge())
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(self._queue, self._on_message)

    def _on_message(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._acknowledge = partial(channel.basic_ack, method.delivery_tag)
        if self._take(body, channel):
            self._acknowledge()


def _worker(url: str) -> None:
    def take(body: bytes, channel: Any) -> bool:
        channel.basic_publish("", RESULTS, body, _PERSISTENT)
        return False

    _Consumer(url, JOBS, take).run()


def _collector(url: str, port: int, path: Path) -> None:
    collecting = Collecting(port, path)

    def take(body: bytes, channel: Any) -> bool:
        collecting.take(body)
        return True

    _Consumer(url, RESULTS, take).run()


class RabbitmqWay(Way):
    packages: ClassVar[Sequence[str]] = ("pika",)

    def stations(self) -> tuple[Worker, Collector]:
        return _worker, _collector

    def connect(self) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(self.broker))
        self._channel = self._connection.channel()
        for queue in (JOBS, RESULTS):
            self._channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        self._channel.confirm_delivery()

    def send(self) -> None:
        self._channel.basic_publish("", JOBS, BODY, _PERSISTENT)

    def stop(self) -> None:
        super().stop()
        self._connection.close()
