"""A message through a RabbitMQ quorum queue: published and confirmed, delivered, acknowledged, in windows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

import pika

from measure.contender import Place
from measure.limits.base import BODY, Limit

_QUEUE = "hop"
_BURST = 2000
#: Deliveries acknowledged by one frame.
_TOGETHER = 100
_PERSISTENT = pika.BasicProperties(delivery_mode=2)


class RabbitmqHopLimit(Limit):
    """One connection, a channel to publish and one to consume; a burst runs its loop until all is done."""

    packages: ClassVar[Sequence[str]] = ("pika",)

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._confirmed = self._acknowledged = self._sent = 0
        parameters = pika.URLParameters(os.environ["BENCH_BROKER"])
        self._connection = pika.SelectConnection(
            parameters, on_open_callback=self._opened, on_open_error_callback=self._refused
        )

    def start(self) -> None:
        """Runs until the consumer is there."""
        self._connection.ioloop.start()

    def stop(self) -> None:
        self._connection.add_on_close_callback(lambda *_: self._connection.ioloop.stop())
        self._connection.close()
        self._connection.ioloop.start()

    def burst(self) -> int:
        for _ in range(_BURST):
            self._out.basic_publish("", _QUEUE, BODY, _PERSISTENT)
        self._sent += _BURST
        self._connection.ioloop.start()
        return _BURST

    def _refused(self, connection: Any, error: Any) -> None:
        raise RuntimeError(f"no connection: {error!r}")

    def _opened(self, connection: Any) -> None:
        self._out = connection.channel(on_open_callback=self._publishing)

    def _publishing(self, channel: Any) -> None:
        arguments = {"x-queue-type": "quorum"}
        channel.confirm_delivery(self._on_confirm)
        channel.queue_declare(_QUEUE, durable=True, arguments=arguments, callback=self._declared)

    def _declared(self, frame: Any) -> None:
        self._in = self._connection.channel(on_open_callback=self._consuming)

    def _consuming(self, channel: Any) -> None:
        channel.basic_qos(prefetch_count=_BURST)
        channel.basic_consume(
            _QUEUE, self._on_message, callback=lambda _: self._connection.ioloop.stop()
        )

    def _on_confirm(self, frame: Any) -> None:
        # numbers of messages start at 1; one frame may confirm all up to its own
        if frame.method.multiple:
            self._confirmed = max(self._confirmed, frame.method.delivery_tag)
        else:
            self._confirmed += 1
        self._finish()

    def _on_message(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if method.delivery_tag % _TOGETHER == 0:
            channel.basic_ack(method.delivery_tag, multiple=True)
            self._acknowledged = method.delivery_tag
            self._finish()

    def _finish(self) -> None:
        if min(self._confirmed, self._acknowledged) >= self._sent:
            self._connection.ioloop.stop()
