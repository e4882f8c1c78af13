"""The broker contract on RabbitMQ. How it does it: docs/decisions/rabbitmq-delivery.md."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from queue_runner.brokers.base import (
    Broker,
    Capabilities,
    Dead,
    DeadLetter,
    Delivery,
    Depth,
    Message,
    Retry,
    ServerInfo,
    Subscription,
)
from queue_runner.brokers.checks import check_lease, check_name
from queue_runner.brokers.rabbitmq.address import Address
from queue_runner.brokers.rabbitmq.broadcasts import (
    RabbitSubscription,
    broadcast_letter,
    check_topic,
)
from queue_runner.brokers.rabbitmq.envelope import check
from queue_runner.brokers.rabbitmq.io_thread import IoThread
from queue_runner.brokers.rabbitmq.lost import Lost, refusal
from queue_runner.brokers.rabbitmq.machine import Machine
from queue_runner.brokers.rabbitmq.server_info import describe
from queue_runner.brokers.rabbitmq.settling import orders, settle
from queue_runner.brokers.rabbitmq.want import Want
from queue_runner.errors import BrokerUnavailable

T = TypeVar("T")


class RabbitBroker(Broker):
    """Checks what it is given and hands it to the I/O thread; everything else lives in `Machine`."""

    #: AMQP tells how many messages are ready, and not how many somebody holds.
    capabilities = Capabilities(counts_leased=False, counts_delayed=True)

    def __init__(self, address: Address) -> None:
        self._address = address
        self._io = IoThread(f"rabbitmq {address.where}")
        self._machine = Machine(self._io, address)

    def publish(self, messages: Sequence[Message], timeout_s: float = 30.0) -> None:
        check(messages)
        post = self._machine.post
        letters = [post.message(message) for message in messages]
        what = f"confirm {len(letters)} messages"
        self._run(lambda: post.send(letters), timeout_s, what)

    def lease(
        self,
        queues: Sequence[str],
        limit: int,
        wait_s: float,
        *,
        lease_s: float = 60.0,
        room: int | None = None,
        max_size: int | None = None,
        timeout_s: float = 30.0,
    ) -> list[Delivery]:
        check_lease(queues, limit, lease_s)
        if not math.isfinite(wait_s):
            raise ValueError(f"wait_s={wait_s} has no end")
        want = Want(tuple(dict.fromkeys(queues)), limit, room, max_size)
        ask = self._machine.asking(want, max(0.0, wait_s), lease_s)
        return self._run(ask, max(0.0, wait_s) + timeout_s, "lease")

    def renew(
        self, deliveries: Sequence[Delivery], lease_s: float = 60.0, timeout_s: float = 30.0
    ) -> list[Delivery]:
        renewing = partial(self._machine.renew, deliveries, lease_s)
        return self._run(renewing, timeout_s, f"renew {len(deliveries)} leases")

    def settle(
        self,
        done: Sequence[Delivery] = (),
        retry: Sequence[Retry] = (),
        dead: Sequence[Dead] = (),
        publish: Sequence[Message] = (),
        timeout_s: float = 30.0,
    ) -> list[Delivery]:
        check(publish)
        machine = self._machine
        wanted = orders(machine.post, done, retry, dead)
        letters = [machine.post.message(message) for message in publish]
        settling = partial(settle, machine.post, machine.taps, wanted, letters)
        return self._run(settling, timeout_s, f"settle {len(wanted)} deliveries")

    def broadcast(self, topic: str, body: bytes, timeout_s: float = 10.0) -> None:
        check_topic(topic)
        letter = broadcast_letter(self._machine.names, topic, body)
        self._run(lambda: self._machine.megaphone.send([letter]), timeout_s, "broadcast")

    def subscribe(self, topics: Sequence[str], timeout_s: float = 30.0) -> Subscription:
        for topic in topics:
            check_topic(topic)
        machine = self._machine
        subscription = RabbitSubscription(self._io, machine.incoming, machine.names, topics)
        self._run(subscription.start, timeout_s, "subscribe")
        machine.subscriptions.add(subscription)
        return subscription

    def depth(self, queue: str, timeout_s: float = 30.0) -> Depth:
        check_name(queue)
        return self._run(partial(self._machine.stock.depth, queue), timeout_s, "count messages")

    def dead_letters(
        self, queue: str, limit: int = 100, timeout_s: float = 30.0
    ) -> list[DeadLetter]:
        check_name(queue)
        peeking = partial(self._machine.dead_letters.peek, queue, limit)
        return self._run(peeking, timeout_s, "list dead letters")

    def replay(self, queue: str, ids: Sequence[str] | None = None, timeout_s: float = 30.0) -> int:
        check_name(queue)
        chosen = None if ids is None else frozenset(ids)
        replaying = partial(self._machine.dead_letters.replay, queue, chosen)
        return self._run(replaying, timeout_s, "replay dead letters")

    def purge(self, queue: str, timeout_s: float = 30.0) -> int:
        check_name(queue)
        return self._run(partial(self._machine.stock.purge, queue), timeout_s, "purge")

    def server(self, timeout_s: float = 10.0) -> ServerInfo:
        properties = self._run(self._machine.greet, timeout_s, "answer")
        return describe(properties, self._address)

    def close(self) -> None:
        self._io.close(self._machine.close())

    def _run(self, work: Callable[[], Awaitable[T]], timeout_s: float, what: str) -> T:
        return self._io.run(self._persist(work, timeout_s, what))

    async def _persist(self, work: Callable[[], Awaitable[T]], timeout_s: float, what: str) -> T:
        """Do `work`, again and again while connections are lost, until the deadline."""
        pause_s = 0.01
        last = "no answer; the server is overloaded or cut off"
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        return await work()
                    except Lost as error:
                        last = str(error)
                        refused = refusal(what, error) if error.code == 403 else None
                        if refused is not None:
                            raise refused from error
                    await asyncio.sleep(pause_s)
                    pause_s = min(1.0, 2 * pause_s)
        except TimeoutError:
            raise BrokerUnavailable(
                f"{self._address.shown} did not {what} within {timeout_s:g} s:"
                f" {self._machine.trouble() or last}"
            ) from None
