"""What works inside the I/O thread, put together."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from queue_runner.brokers.base import Delivery
from queue_runner.brokers.rabbitmq.address import Address
from queue_runner.brokers.rabbitmq.bell import Bell
from queue_runner.brokers.rabbitmq.broadcasts import RabbitSubscription, declare_broadcast
from queue_runner.brokers.rabbitmq.catalogue import Catalogue
from queue_runner.brokers.rabbitmq.dead_letters import DeadLetters
from queue_runner.brokers.rabbitmq.holding import Holding
from queue_runner.brokers.rabbitmq.io_thread import IoThread
from queue_runner.brokers.rabbitmq.lapses import Lapses
from queue_runner.brokers.rabbitmq.leasing import Leasing
from queue_runner.brokers.rabbitmq.link import Link
from queue_runner.brokers.rabbitmq.lost import Lost
from queue_runner.brokers.rabbitmq.post import Post
from queue_runner.brokers.rabbitmq.publisher import Publisher
from queue_runner.brokers.rabbitmq.settling import give_back_uncounted
from queue_runner.brokers.rabbitmq.spares import Spares
from queue_runner.brokers.rabbitmq.stock import Stock
from queue_runner.brokers.rabbitmq.taps import Claim, State, Taps
from queue_runner.brokers.rabbitmq.topology import Names
from queue_runner.brokers.rabbitmq.want import Want

#: How long `close` waits for what is to go back, and then for the server's farewell before it hangs up.
_REST_S, _FAREWELL_S = 1.5, 1.5


class Machine:
    """Two connections: a server that is short of memory or disk stops reading from those that publish,
    and acknowledgements, which free both, must still get through."""

    def __init__(self, io: IoThread, address: Address) -> None:
        bell = Bell()
        self._where = address.where
        self.names = names = Names(address.prefix)
        self.incoming = Link(io, address, "consumes")
        self.outgoing = Link(io, address, "publishes")
        self.publisher = Publisher(self.outgoing)
        self.megaphone = Publisher(self.outgoing, lambda chan: declare_broadcast(chan, names))
        self.catalogue = Catalogue(io, self.incoming, self.publisher, names, bell)
        self.post = Post(self.catalogue, self.publisher, names)
        self.spares = Spares(io, bell, lambda claims: give_back_uncounted(self.post, claims))
        self.taps = Taps(self.incoming, self.catalogue, names, bell, self.spares.put)
        self.leasing = Leasing(io, self.catalogue, self.taps, self.spares, bell)
        self.lapses = Lapses(self.taps)
        self.holding = Holding(io, self.taps, self.publisher, address.hold_s)
        self.dead_letters = DeadLetters(self.incoming, self.post, names)
        self.stock = Stock(self.incoming, self.catalogue, self.leasing, names)
        self.subscriptions: weakref.WeakSet[RabbitSubscription] = weakref.WeakSet()

    def asking(
        self, want: Want, wait_s: float, lease_s: float
    ) -> Callable[[], Awaitable[list[Delivery]]]:
        """A `lease` call that may be made again after `Lost`, and then waits for what is left."""
        until: float | None = None

        async def ask() -> list[Delivery]:
            nonlocal until
            loop = asyncio.get_running_loop()
            until = loop.time() + wait_s if until is None else until
            self.incoming.heed(lease_s, idle=not self.taps.claims())
            self.holding.start()
            claims = await self.leasing.lease(want, max(0.0, until - loop.time()))
            for claim in claims:
                claim.state = State.HELD
            self.lapses.watch(claims, lease_s)
            return [_delivery(claim) for claim in claims]

        return ask

    async def renew(self, deliveries: Sequence[Delivery], lease_s: float) -> list[Delivery]:
        """Ask the server whether it still knows us, for every claim that we think stands."""
        claims = [self.taps.mine(delivery.receipt) for delivery in deliveries]
        taps = {claim.tap for claim in claims if claim is not None}
        await asyncio.gather(*(tap.fence() for tap in taps), return_exceptions=True)
        # a set: where results wait there may be ten thousand, and a list is searched from its beginning
        alive = {claim for claim in claims if claim is not None and claim.state is State.HELD}
        self.lapses.watch(alive, lease_s)
        return [d for d, claim in zip(deliveries, claims, strict=True) if claim not in alive]

    async def greet(self) -> Any:
        """Have the server answer; returns its properties."""
        connection = await self.incoming.up()
        async with self.incoming.visit():
            return connection.server_properties

    def trouble(self) -> str | None:
        """Why something has not been done by its deadline, where that is known."""
        if self.outgoing.blocked:
            return (
                f"it takes no messages ({self.outgoing.blocked}). Free memory or disk on the server,"
                " or raise its limits: rabbitmq-diagnostics alarms"
            )
        for link in (self.incoming, self.outgoing):
            if link.trouble:
                return f"{link.trouble.rstrip('.')}. Is RabbitMQ running at {self._where}?"
        return self.publisher.trouble

    async def close(self) -> None:
        for subscription in self.subscriptions:
            subscription.end()
        with suppress(TimeoutError, Lost):  # then they return by themselves
            async with asyncio.timeout(_REST_S):
                await self.leasing.rest()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                await asyncio.gather(self.incoming.close(), self.outgoing.close())


def _delivery(claim: Claim) -> Delivery:
    lane = claim.lane
    return Delivery(lane.queue, claim.body, lane.size, lane.priority, claim.attempt, claim)
