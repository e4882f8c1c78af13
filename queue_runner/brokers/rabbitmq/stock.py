"""Counting and removing what waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from queue_runner.brokers.base import Depth
from queue_runner.brokers.rabbitmq.catalogue import Catalogue
from queue_runner.brokers.rabbitmq.chan import Chan
from queue_runner.brokers.rabbitmq.leasing import Leasing
from queue_runner.brokers.rabbitmq.link import Link
from queue_runner.brokers.rabbitmq.together import together
from queue_runner.brokers.rabbitmq.topology import Names

#: A request about one queue, answered with a number of messages.
_Request = Callable[[Chan, str], Awaitable[int]]


class Stock:
    def __init__(self, link: Link, catalogue: Catalogue, leasing: Leasing, names: Names) -> None:
        self._link = link
        self._catalogue = catalogue
        self._leasing = leasing
        self._names = names

    async def depth(self, queue: str) -> Depth:
        await self._leasing.rest()
        await self._catalogue.refresh()
        ready = await self._sum(Chan.ready, self._lanes(queue))
        delayed = await self._sum(Chan.ready, self._delays(queue))
        dead = await self._sum(Chan.ready, [self._names.dead(queue)])
        return Depth(ready=ready, delayed=delayed, leased=None, dead=dead)

    async def purge(self, queue: str) -> int:
        """Delayed ones first, or some might become ready behind our back."""
        await self._leasing.rest()
        await self._catalogue.refresh()
        delayed = await self._sum(Chan.purge, self._delays(queue))
        return delayed + await self._sum(Chan.purge, self._lanes(queue))

    def _lanes(self, queue: str) -> list[str]:
        return [self._names.lane(lane) for lane in self._catalogue.lanes[queue]]

    def _delays(self, queue: str) -> list[str]:
        return [
            self._names.delay(lane, delay_ms)
            for lane in self._catalogue.lanes[queue]
            for delay_ms in self._catalogue.delays[lane]
        ]

    async def _sum(self, request: _Request, queues: Iterable[str]) -> int:
        return sum(await together(self._ask(request, queue) for queue in queues))

    async def _ask(self, request: _Request, queue: str) -> int:
        async with self._link.visit() as chan:
            # an unused delay queue may have gone
            return 0 if await chan.ready_or_none(queue) is None else await request(chan, queue)
