"""Taps on the lanes: each lane's own channel, and what has been drawn from it and not settled.

A channel of its own, because what RabbitMQ does to a wrong or late acknowledgement is to close the
channel, and that takes the claims of all others on it along.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from collections.abc import Callable, Collection, Iterable
from enum import Enum
from typing import Any

from queue_runner.brokers.rabbitmq.bell import Bell
from queue_runner.brokers.rabbitmq.catalogue import Catalogue
from queue_runner.brokers.rabbitmq.chan import Chan
from queue_runner.brokers.rabbitmq.envelope import attempt_of
from queue_runner.brokers.rabbitmq.foreign import too_long
from queue_runner.brokers.rabbitmq.link import Link
from queue_runner.brokers.rabbitmq.lost import Lost, saying_no
from queue_runner.brokers.rabbitmq.topology import HELD_MS, Lane, Names

logger = logging.getLogger(__name__)

#: `prefetch-count` is a short.
_MOST_PREFETCH = 65535


class State(Enum):
    SPARE = "delivered, and nobody's yet"
    HELD = "leased to a caller"
    ENDING = "being settled"
    OVER = "settled, lapsed, or lost with its channel"


class Claim:
    """A delivery that has not been acknowledged. The receipt of a `Delivery` is one of these.

    deadline, since: monotonic seconds; when the lease lapses, when the server began to wait for its
    acknowledgement. tap, tag: where to acknowledge it, which may change while it is held. consumer: the
    name of the one that it came to.
    """

    __slots__ = (
        "attempt",
        "body",
        "consumer",
        "deadline",
        "lane",
        "message_id",
        "since",
        "state",
        "tag",
        "tap",
    )

    def __init__(self, tap: Tap, method: Any, props: Any, body: bytes) -> None:
        self.tap = tap
        self.tag: int = method.delivery_tag
        self.consumer: str = method.consumer_tag
        self.lane = tap.lane
        self.body = body
        self.attempt = attempt_of(props.headers, method.redelivered)
        self.message_id: str | None = props.message_id
        self.state = State.SPARE
        self.since = self.deadline = tap.now()


Sink = Callable[[Claim], None]


class Tap:
    """`queue` is the lane's own or, `holding`, one that keeps its messages for us alone.

    A consumer that has got all it may have stays until the first of that is settled, when it would get
    more: what a cancelled one had is given to nobody when its node goes (seen with 3.10; until the queue
    has another leader).
    """

    def __init__(
        self,
        lane: Lane,
        queue: str,
        chan: Chan,
        spill: Sink,
        *,
        owner: object,
        holding: bool = False,
    ) -> None:
        self.owner = owner
        self.lane = lane
        self.queue = queue
        self.holding = holding
        self.unsettled: dict[int, Claim] = {}
        #: Monotonic seconds.
        self.now = asyncio.get_running_loop().time
        self._chan = chan
        self._spill = spill
        self._sinks: dict[str, Sink] = {}
        #: Of the consumers that the server has: how many messages may still come.
        self._room: dict[str, int] = {}
        self._tags = itertools.count(1)
        self._alone = asyncio.Lock()
        self._prefetch = 0
        chan.take_with(self._on_delivery)
        chan.on_lost.append(self._on_lost)

    @property
    def gone(self) -> Lost | None:
        return self._chan.gone

    async def ready(self) -> int:
        return await self._chan.ready(self.queue)

    async def open(self, prefetch: int, sink: Sink) -> str:
        """Start a consumer for at most `prefetch` messages; returns its name for `shut`."""
        name = f"tap{next(self._tags)}"
        prefetch = min(prefetch, _MOST_PREFETCH)
        self._sinks[name], self._room[name] = sink, prefetch
        async with self._alone:  # the prefetch is that of the next consumer of the channel
            await self._limit(prefetch)
            with saying_no(f"read from {self.queue!r}"):
                await self._chan.consume(self.queue, name)
        return name

    def room(self, name: str) -> int:
        """How many messages the server may send to a consumer now."""
        return self._room.get(name, 0)

    def turn(self, name: str, sink: Sink) -> None:
        """Have what comes to an open consumer go elsewhere from now on."""
        if name in self._sinks:
            self._sinks[name] = sink

    async def shut(self, name: str) -> None:
        """Take no more from a consumer. What still comes for it afterwards is spilled. Raises `Lost`."""
        if self.gone is not None:
            raise self.gone
        if self._room.get(name):
            # at once: pika keeps quiet when it is asked to cancel what is cancelled already
            del self._room[name]
            await self._chan.cancel(name)
        self._sinks.pop(name, None)

    async def fence(self) -> None:
        """Wait until the server has taken in all that was sent on this channel before."""
        async with self._alone:
            await self._chan.qos(self._prefetch)

    async def _limit(self, prefetch: int) -> None:
        if prefetch != self._prefetch:
            self._prefetch = prefetch
            await self._chan.qos(prefetch)

    def acknowledge(self, claims: Collection[Claim]) -> None:
        """Tell the server that these are done with. Raises `Lost`."""
        tags = {claim.tag for claim in claims}
        self._leave({claim.consumer for claim in claims})
        run = list(itertools.takewhile(tags.__contains__, self.unsettled))
        if run:
            self._chan.tell("basic_ack", run[-1], multiple=True)
        for tag in tags.difference(run):
            self._chan.tell("basic_ack", tag)
        self._end(tags)

    def give_back(self, claim: Claim) -> None:
        """Return a claim to its lane, its attempt counted. Raises `Lost`."""
        # what is held for us alone was stored with the next attempt's number, and is dead-lettered home
        self._leave({claim.consumer})
        self._chan.tell("basic_nack", claim.tag, requeue=not self.holding)
        self._end({claim.tag})

    def hand_over(self, copy: Claim, claim: Claim) -> None:
        """Go on holding `claim` by its `copy`, which came here, and acknowledge the delivery it had."""
        former, tag, former_consumer = claim.tap, claim.tag, claim.consumer
        former._leave({former_consumer})
        claim.tap, claim.tag, claim.since = self, copy.tag, copy.since
        claim.consumer = copy.consumer
        self.unsettled[copy.tag] = claim
        copy.state = State.OVER
        del former.unsettled[tag]
        former._chan.tell("basic_ack", tag)
        former._may_have_more(former_consumer)

    def _leave(self, consumers: Iterable[str]) -> None:
        """Cancel those of these that nobody takes from any more."""
        for name in consumers:
            if name in self._room and name not in self._sinks:
                del self._room[name]
                self._chan.tell("cancel_at_once", name)

    def _end(self, tags: Iterable[int]) -> None:
        for tag in tags:
            claim = self.unsettled.pop(tag)
            claim.state = State.OVER
            if claim.consumer in self._room:
                self._may_have_more(claim.consumer)

    def _may_have_more(self, name: str) -> None:
        """One message less that it has."""
        if name in self._room:
            self._room[name] += 1

    def _on_delivery(self, method: Any, props: Any, body: bytes) -> None:
        if reason := too_long(props):
            logger.error("a message in %s is dead-lettered: %s", self.queue, reason)
            self._chan.tell("basic_nack", method.delivery_tag, requeue=False)
            return
        claim = Claim(self, method, props, body)
        self.unsettled[claim.tag] = claim
        if claim.consumer in self._room:
            self._room[claim.consumer] -= 1
        sink = self._sinks.get(claim.consumer)
        if sink is None:
            # what it had was taken from it and given to others; so it may have more
            self._leave({claim.consumer})
            sink = self._spill
        sink(claim)

    def _on_lost(self) -> None:
        self._end(list(self.unsettled))
        self._sinks.clear()
        self._room.clear()


class Taps:
    """The open taps, made when they are first needed and again when their channel was lost."""

    def __init__(
        self, link: Link, catalogue: Catalogue, names: Names, bell: Bell, spill: Sink
    ) -> None:
        self._link = link
        self._catalogue = catalogue
        self._names = names
        self._bell = bell
        self._spill = spill
        self._taps: dict[Lane, Tap] = {}
        self._holding: dict[Lane, Tap] = {}
        self._opening = asyncio.Lock()

    async def on(self, lane: Lane) -> Tap:
        """The tap on a lane."""
        tap = self._taps.get(lane)
        if tap is None or tap.gone is not None:
            async with self._opening:
                tap = self._taps.get(lane)
                if tap is None or tap.gone is not None:
                    tap = self._taps[lane] = await self._open(lane)
        return tap

    async def holding(self, lane: Lane, sink: Sink) -> Tap:
        """A tap on a queue of our own, open into `sink`; what we lose of it returns to the lane."""
        tap = self._holding.get(lane)
        if tap is None or tap.gone is not None:
            tap = self._holding[lane] = await self._open_holding(lane, sink)
        return tap

    async def _open(self, lane: Lane) -> Tap:
        chan = await self._link.channel()
        chan.on_lost.append(self._bell.ring)
        await self._catalogue.declare_lane(chan, lane)
        return Tap(lane, self._names.lane(lane), chan, self._spill, owner=self)

    async def _open_holding(self, lane: Lane, sink: Sink) -> Tap:
        chan = await self._link.channel()
        queue = self._names.held(lane, uuid.uuid4().hex)
        with saying_no(f"declare {queue!r}"):
            await chan.declare(queue, self._names.side_arguments(lane, HELD_MS))
        tap = Tap(lane, queue, chan, self._spill, owner=self, holding=True)
        await tap.open(_MOST_PREFETCH, sink)
        return tap

    def claims(self) -> list[Claim]:
        """All that is unsettled."""
        taps = itertools.chain(self._taps.values(), self._holding.values())
        return [claim for tap in taps for claim in tap.unsettled.values()]

    def mine(self, receipt: object) -> Claim | None:
        """The claim behind a receipt, if it was given out here and still stands."""
        if isinstance(receipt, Claim) and receipt.tap.owner is self:
            return receipt if receipt.state is State.HELD else None
        return None
