"""Telling everyone who listens: a direct exchange, and a queue for each subscriber that dies with it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from queue_runner.brokers.base import Subscription
from queue_runner.brokers.checks import check_name
from queue_runner.brokers.rabbitmq.chan import Chan, properties
from queue_runner.brokers.rabbitmq.envelope import Letter, new_id
from queue_runner.brokers.rabbitmq.foreign import too_long
from queue_runner.brokers.rabbitmq.io_thread import IoThread
from queue_runner.brokers.rabbitmq.link import Link
from queue_runner.brokers.rabbitmq.lost import Lost, saying_no
from queue_runner.brokers.rabbitmq.topology import SUBSCRIPTION_ARGUMENTS, Names
from queue_runner.errors import BrokerRefused, BrokerUnavailable

logger = logging.getLogger(__name__)

#: A subscriber that does not read forgets the oldest.
_KEPT = 10_000

#: Between attempts to listen again while the server refuses.
_PAUSE_S = 0.5


def check_topic(topic: str) -> None:
    check_name(topic, "topic")


def broadcast_letter(names: Names, topic: str, body: bytes) -> Letter:
    props = properties(delivery_mode=1, message_id=new_id())
    return Letter(topic, body, props, names.broadcast)


async def declare_broadcast(chan: Chan, names: Names) -> None:
    with saying_no(f"declare the exchange {names.broadcast!r}"):
        await chan.declare_exchange(names.broadcast, "direct")


class RabbitSubscription(Subscription):
    """Filled by the I/O thread, read by one other."""

    def __init__(self, io: IoThread, link: Link, names: Names, topics: Sequence[str]) -> None:
        self._io = io
        self._link = link
        self._names = names
        self._topics = topics
        self._heard: deque[tuple[str, bytes]] = deque(maxlen=_KEPT)
        self._change = threading.Condition()
        self._closed = False
        self._chan: Chan | None = None

    async def start(self) -> None:
        """Listen; returns once the server has the queue and its bindings."""
        await self._listen()
        self._io.spawn(self._follow())

    def get(self, timeout_s: float) -> tuple[str, bytes] | None:
        with self._change:
            self._change.wait_for(lambda: self._heard or self._closed, timeout_s)
            if self._closed:
                raise BrokerUnavailable("this subscription has been closed")
            return self._heard.popleft() if self._heard else None

    def close(self) -> None:
        if not self._closed:
            self.end()
            with suppress(BrokerUnavailable):  # the connection is closed already
                self._io.run(self._stop())

    def end(self) -> None:
        """Wake the reader for the last time."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    async def _stop(self) -> None:
        if self._chan is not None:
            self._io.spawn(self._chan.close())

    async def _follow(self) -> None:
        """Listen again whenever the channel was lost."""
        while not self._closed:
            if self._chan is not None:
                await self._chan.ended()
            try:
                await self._listen()
            except (Lost, BrokerRefused) as error:
                logger.warning("not listening to %s: %s", ", ".join(self._topics), error)
                await asyncio.sleep(_PAUSE_S)

    async def _listen(self) -> None:
        chan = await self._link.channel()
        if self._closed:
            return await chan.close()
        self._chan = chan
        chan.take_with(self._hear)
        await declare_broadcast(chan, self._names)
        with saying_no("listen to broadcasts"):
            queue = (await chan.declare("", SUBSCRIPTION_ARGUMENTS, exclusive=True)).queue
            for topic in self._topics:
                await chan.bind(queue, self._names.broadcast, topic)
            await chan.consume(queue, "listen", auto_ack=True)

    def _hear(self, method: Any, props: Any, body: bytes) -> None:
        if reason := too_long(props):
            logger.warning("a broadcast on %s was not heard: %s", method.routing_key, reason)
            return
        with self._change:
            self._heard.append((method.routing_key, body))
            self._change.notify_all()
