"""Consumers on the lanes, and those that stay open from one `lease` call to the next.

Who takes messages one at a time, as they come, calls again at once. Its consumers, with a prefetch of one,
need not be closed and opened in between, each of which is an entry in a quorum queue's log; and while every
lane has one that may get a message, the lanes need not be asked whether they hold any. One that brought a
message may get the next when that is settled.

What comes to them while no call waits is spare. So they stay for a moment only, and only for somebody who has
been seen to come back that soon. Who has not come back by then is busy, and its spares are given back.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any

from queue_runner.brokers.rabbitmq.io_thread import IoThread
from queue_runner.brokers.rabbitmq.lost import Lost
from queue_runner.brokers.rabbitmq.taps import Sink, Tap
from queue_runner.brokers.rabbitmq.together import together
from queue_runner.brokers.rabbitmq.topology import Lane
from queue_runner.brokers.rabbitmq.want import Want
from queue_runner.errors import BrokerRefused

#: Seconds from the end of a call to the beginning of the next, for who comes back at once.
_AT_ONCE_S = 0.03
#: On one lane: enough to take messages as they come while those before are being settled.
MOST = 4


class Consumer:
    """An open consumer on a tap, or the `trouble` there was with it."""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap
        self.trouble: Lost | BrokerRefused | None = None
        self._name: str | None = None

    @property
    def broken(self) -> bool:
        return self.trouble is not None or self.tap.gone is not None

    @property
    def free(self) -> bool:
        """Whether the server may send it a message."""
        return self._name is not None and self.tap.room(self._name) > 0

    async def open(self, prefetch: int, sink: Sink) -> None:
        try:
            self._name = await self.tap.open(prefetch, sink)
        except (Lost, BrokerRefused) as error:
            self.trouble = error

    def turn(self, sink: Sink) -> None:
        if self._name is not None:
            self.tap.turn(self._name, sink)

    async def shut(self) -> None:
        if self._name is not None:
            try:
                await self.tap.shut(self._name)
            except Lost as error:
                self.trouble = error


async def shut(consumers: Iterable[Consumer]) -> None:
    await together(each.shut() for each in consumers)


class Standing:
    """What one call leaves open for the next. A call owns what it has taken.

    give_back: what is to follow when no next call came.
    """

    def __init__(self, io: IoThread, give_back: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._io = io
        self._give_back = give_back
        self._consumers: Sequence[Consumer] = ()
        self._until: asyncio.TimerHandle | None = None
        self._ended_at = -_AT_ONCE_S
        self._closing: set[asyncio.Task[None]] = set()

    def comes_back(self) -> bool:
        """Whether a call that begins now follows at once on one that got what it had waited for."""
        return asyncio.get_running_loop().time() - self._ended_at <= _AT_ONCE_S

    async def take(
        self, want: Want, lanes: Collection[Lane], had: Sequence[Consumer] = ()
    ) -> list[Consumer]:
        """With those it `had`, what a call can use: on its lanes, as many as it may have messages.

        Others are shut.
        """
        consumers, self._consumers = [*had, *self._consumers], ()
        if self._until is not None:
            self._until.cancel()
        free: Counter[Lane] = Counter()
        ours: list[Consumer] = []
        others: list[Consumer] = []
        for each in consumers:
            lane = each.tap.lane
            free[lane] += each.free
            fits = lane in lanes and free[lane] <= want.most(lane)
            (ours if fits and not each.broken else others).append(each)
        if others:
            await asyncio.shield(self.close(others))
        return ours

    def leave(self, consumers: Iterable[Consumer], *, open_: bool) -> None:
        """Nobody waits for those that are shut; open_: whether any stay open for now."""
        loop = asyncio.get_running_loop()
        self._ended_at = loop.time()
        on: Counter[Lane] = Counter()
        kept: list[Consumer] = []
        others = list(self._consumers)
        for each in consumers:
            on[each.tap.lane] += 1
            stays = open_ and not each.broken and on[each.tap.lane] <= MOST
            (kept if stays else others).append(each)
        self._consumers = kept
        if self._until is not None:
            self._until.cancel()
        if kept:
            self._until = loop.call_later(_AT_ONCE_S, lambda: self._io.spawn(self._nobody_came()))
        if others:
            self.close(others)

    async def _nobody_came(self) -> None:
        await self.end()
        await self._give_back()

    async def end(self) -> None:
        """Shut them all, and wait until those that nobody waits for are shut, too."""
        consumers, self._consumers = self._consumers, ()
        if consumers:
            self.close(consumers)
        # not for those that other calls close meanwhile, of which there may always be one
        if self._closing:
            await asyncio.wait(self._closing)

    def close(self, consumers: Sequence[Consumer]) -> asyncio.Task[None]:
        """Shut them, which `end` waits for; what still comes to them is spare."""
        task = self._io.spawn(shut(consumers))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task
