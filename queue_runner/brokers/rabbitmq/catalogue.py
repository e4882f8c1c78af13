"""Which lanes and delay queues there are: AMQP can declare queues, and cannot list them.

Whoever makes a new one appends a record to a stream, confirmed, before the first message goes to it;
everybody else reads the stream from its beginning and hears of new records as they come. A stream does
not say over AMQP how long it is, so each record also goes to a queue that nobody consumes, whose
length is the number of records.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from queue_runner.brokers.base import MAX_PRIORITY
from queue_runner.brokers.checks import check_name
from queue_runner.brokers.rabbitmq.bell import Bell
from queue_runner.brokers.rabbitmq.chan import Chan, properties
from queue_runner.brokers.rabbitmq.envelope import Letter, new_id
from queue_runner.brokers.rabbitmq.io_thread import IoThread
from queue_runner.brokers.rabbitmq.link import Link, version_of
from queue_runner.brokers.rabbitmq.lost import Lost, saying_no
from queue_runner.brokers.rabbitmq.publisher import Publisher
from queue_runner.brokers.rabbitmq.topology import (
    LINGER_MS,
    MAX_DELAY_S,
    STREAM_ARGUMENTS,
    Lane,
    Names,
    rounded_ms,
)
from queue_runner.errors import BrokerRefused

logger = logging.getLogger(__name__)

#: A record that was counted comes out of the stream at once. One that has not come after so long was
#: lost between the two when its publisher died, and no message was sent to what it would have named.
_PATIENCE_S = 2.0

#: Before 4.0 a server that is killed in the half second after it made a queue forgets the queue with all
#: that it confirmed for it: the name is written to disk only then. Nothing is sent to a queue so young.
#: https://github.com/rabbitmq/ra/pull/443
_FLUSH_S = 1.0
_FLUSHES_AT_ONCE = (4, 0)

#: Lanes of a queue, and delays of a lane: each takes a channel or a question when it is looked at.
_MOST_LANES = 500
_MOST_DELAY_MS = rounded_ms(MAX_DELAY_S)

#: A delay queue is declared again when it was last so long ago, so that it outlives its messages.
_REDECLARE_S = LINGER_MS / 1000 / 10


class Catalogue:
    """`lanes` by queue and `delays` (in ms) by lane; `edition` grows, and `news` rings, with each."""

    def __init__(
        self, io: IoThread, link: Link, publisher: Publisher, names: Names, news: Bell
    ) -> None:
        self.lanes: defaultdict[str, set[Lane]] = defaultdict(set)
        self.delays: defaultdict[Lane, set[int]] = defaultdict(set)
        self.edition = 0
        self.news = news
        self._io = io
        self._link = link
        self._publisher = publisher
        self._names = names
        self._reader: asyncio.Task[None] | None = None
        self._counter: Chan | None = None
        self._counting = asyncio.Lock()
        self._seen = 0
        self._missing = 0
        self._declared: dict[tuple[Lane, int], float] = {}
        self._declaring = asyncio.Lock()

    async def refresh(self) -> None:
        """Know at least all that was there when this was called. Raises `Lost`, `BrokerRefused`."""
        count = await self._count()
        if self._reader is None:
            self._reader = self._io.spawn(self._read())
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self.news.wait_for(lambda: self._seen + self._missing >= count)
        except TimeoutError:
            self._missing = count - self._seen
            logger.warning("%d records of %s are missing", self._missing, self._names.lanes)

    async def ensure(self, wanted: Iterable[tuple[Lane, int]], remade: bool = False) -> None:
        """Have a queue for each (lane, delay in ms; 0: none) and everybody know of it.

        `remade`: they were known, and are gone.
        """
        pairs = dict.fromkeys(wanted)
        if not self._outdated(pairs):
            return
        async with self._declaring:
            missing = self._outdated(pairs)
            await self.refresh()
            unknown = [pair for pair in missing if not self._knows(*pair)]
            remade = remade or await self._has_expired(missing)
            async with self._link.visit() as chan:
                for lane, delay_ms in missing:
                    await self._declare(chan, lane, delay_ms)
            if unknown or remade:
                await self._on_disk()
            await self._record(unknown)
            now = asyncio.get_running_loop().time()
            self._declared.update((pair, now) for pair in missing)

    async def repair(self, unroutable: Sequence[Letter]) -> None:
        """Declare again what these did not reach: somebody deleted it."""
        pairs = [(letter.lane, letter.delay_ms) for letter in unroutable if letter.lane is not None]
        for pair in pairs:
            self._declared.pop(pair, None)
        await self.ensure(pairs, remade=True)

    async def declare_lane(self, chan: Chan, lane: Lane) -> None:
        """A lane's queue, and the one for its dead letters. Raises `BrokerRefused`."""
        names = self._names
        with saying_no(f"declare {names.lane(lane)!r}"):
            await chan.declare(names.dead(lane.queue), names.plain_arguments())
            await chan.declare(names.lane(lane), names.lane_arguments(lane))

    def _outdated(self, pairs: Iterable[tuple[Lane, int]]) -> list[tuple[Lane, int]]:
        now = asyncio.get_running_loop().time()
        return [
            pair
            for pair in pairs
            if pair not in self._declared or (pair[1] and now - self._declared[pair] > _REDECLARE_S)
        ]

    def _knows(self, lane: Lane, delay_ms: int) -> bool:
        if delay_ms:
            return delay_ms in self.delays[lane]
        return lane in self.lanes[lane.queue]

    async def _declare(self, chan: Chan, lane: Lane, delay_ms: int) -> None:
        await self.declare_lane(chan, lane)
        if delay_ms:
            name = self._names.delay(lane, delay_ms)
            with saying_no(f"declare {name!r}"):
                await chan.declare(name, self._names.side_arguments(lane, delay_ms))

    async def _has_expired(self, pairs: Iterable[tuple[Lane, int]]) -> bool:
        """Whether a delay queue that was there once is not any more."""
        for lane, delay_ms in pairs:
            if delay_ms and self._knows(lane, delay_ms):
                async with self._link.visit() as chan:
                    if await chan.ready_or_none(self._names.delay(lane, delay_ms)) is None:
                        return True
        return False

    async def _on_disk(self) -> None:
        connection = await self._link.up()
        if version_of(connection.server_properties) < _FLUSHES_AT_ONCE:
            await asyncio.sleep(_FLUSH_S)

    async def _record(self, pairs: Sequence[tuple[Lane, int]]) -> None:
        bodies = [_record(lane, delay_ms) for lane, delay_ms in pairs]
        letters = [
            Letter("", body, properties(delivery_mode=2, message_id=new_id()), self._names.lanes)
            for body in bodies
        ]
        await self._publisher.send(letters, self._repair_records)
        for body in bodies:
            self._learn(body)

    async def _repair_records(self, _: Sequence[Letter]) -> None:
        async with self._link.visit() as chan:
            await self._declare_records(chan)

    async def _count(self) -> int:
        async with self._counting:
            if self._counter is None or self._counter.gone is not None:
                chan = await self._link.channel()
                await self._declare_records(chan)
                self._counter = chan
            return await self._counter.ready(self._names.lane_count)

    async def _declare_records(self, chan: Chan) -> None:
        names = self._names
        with saying_no(f"declare the stream {names.lanes!r}"):
            await chan.declare_exchange(names.lanes, "fanout")
            await chan.declare(names.lanes, STREAM_ARGUMENTS)
            await chan.declare(names.lane_count, names.plain_arguments())
            await chan.bind(names.lanes, names.lanes)
            await chan.bind(names.lane_count, names.lanes)

    async def _read(self) -> None:
        """Follow the stream, through every reconnection."""
        while True:
            try:
                await self._follow(await self._link.channel())
            except (Lost, BrokerRefused) as error:
                logger.debug("will read %s again: %s", self._names.lanes, error)
                await asyncio.sleep(0.1)

    async def _follow(self, chan: Chan) -> None:
        # always from the beginning: it is short, and somebody may have deleted and remade it
        self._seen = 0
        chan.take_with(lambda method, props, body: self._take_in(chan, method, props, body))
        await chan.qos(500)
        await chan.consume(self._names.lanes, "lanes", arguments={"x-stream-offset": "first"})
        raise await chan.ended()

    def _take_in(self, chan: Chan, method: Any, props: Any, body: bytes) -> None:
        self._learn(body)
        self._seen = int(props.headers["x-stream-offset"]) + 1
        self.news.ring()
        if chan.gone is None:
            chan.tell("basic_ack", method.delivery_tag)

    def _learn(self, body: bytes) -> None:
        try:
            lane, delay_ms = _read_record(body)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            logger.warning("not a record of ours in %s: %s", self._names.lanes, error)
            return
        if self._knows(lane, delay_ms):
            return
        known = self.delays[lane] if delay_ms else self.lanes[lane.queue]
        if len(known) >= _MOST_LANES:
            logger.warning("%s has more lanes or delays than are read: %s", lane.queue, lane)
            return
        self.lanes[lane.queue].add(lane)
        if delay_ms:
            self.delays[lane].add(delay_ms)
        self.edition += 1
        self.news.ring()


def _record(lane: Lane, delay_ms: int) -> bytes:
    return json.dumps([lane.queue, lane.priority, lane.size, delay_ms]).encode()


def _read_record(body: bytes) -> tuple[Lane, int]:
    queue, priority, size, delay_ms = json.loads(body)
    check_name(queue)
    bounds = ((priority, 0, MAX_PRIORITY), (size, 1, 2**31 - 1), (delay_ms, 0, _MOST_DELAY_MS))
    if any(type(value) is not int or not low <= value <= high for value, low, high in bounds):
        raise ValueError(f"priority, size or delay is out of bounds: {body[:200]!r}")
    return Lane(queue, priority, size), delay_ms
