"""Looking at dead letters, and putting them back."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Any

from queue_runner.brokers.base import DeadLetter
from queue_runner.brokers.rabbitmq.bell import Bell
from queue_runner.brokers.rabbitmq.chan import Chan
from queue_runner.brokers.rabbitmq.connection import Taker
from queue_runner.brokers.rabbitmq.envelope import dead_letter, lane_of
from queue_runner.brokers.rabbitmq.foreign import too_long
from queue_runner.brokers.rabbitmq.link import Link
from queue_runner.brokers.rabbitmq.lost import Lost, saying_no
from queue_runner.brokers.rabbitmq.post import Post
from queue_runner.brokers.rabbitmq.topology import Names

#: So many are fetched at once; each may have 16 MiB.
_PAGE = 50

#: Seconds to wait for a page that the server has said is there.
_PATIENCE_S = 2.0

#: A dead letter, its delivery tag, and whether all of it came.
Fetched = tuple[DeadLetter, int, bool]


def _age(letter: DeadLetter) -> tuple[float, str, int]:
    # within a millisecond by the number that its sender gave it
    sender, _, number = letter.id.rpartition("-")
    return letter.at, sender, int(number) if number.isdecimal() else 0


class DeadLetters:
    """They are read by taking them out, unacknowledged; the end of the channel puts them back in place."""

    def __init__(self, link: Link, post: Post, names: Names) -> None:
        self._link = link
        self._post = post
        self._names = names

    async def peek(self, queue: str, limit: int) -> list[DeadLetter]:
        found: list[DeadLetter] = []
        async with self._link.visit() as chan:
            async for page in self._pages(chan, queue, limit):
                found += [letter for letter, *_ in page]
            await chan.close()  # back in place before anybody looks again
        # what was looked at before comes back in the order in which the server returned it
        return sorted(found, key=_age)

    async def replay(self, queue: str, ids: Collection[str] | None) -> int:
        """Of those that are dead now; one that dies again meanwhile stays dead."""
        replayed = 0
        async with self._link.visit() as chan:
            async for page in self._pages(chan, queue, None):
                chosen = [each for each in page if each[2] and (ids is None or each[0].id in ids)]
                await self._revive(chan, chosen)
                replayed += len(chosen)
            await chan.close()
        return replayed

    async def _revive(self, chan: Chan, chosen: list[Fetched]) -> None:
        await self._post.send(
            [self._post.job(lane_of(letter), letter.body, attempt=1) for letter, *_ in chosen]
        )
        for _, tag, _ in chosen:
            chan.tell("basic_ack", tag)

    async def _pages(
        self, chan: Chan, queue: str, limit: int | None
    ) -> AsyncIterator[list[Fetched]]:
        """Oldest first; only what is there now."""
        if limit is not None and limit < 1:
            return
        page: list[Fetched] = []
        bell = Bell()

        def take(method: Any, props: Any, body: bytes) -> None:
            letter = dead_letter(queue, props, body, method.routing_key)
            page.append((letter, method.delivery_tag, too_long(props) is None))
            bell.ring()

        name = self._names.dead(queue)
        chan.take_with(take)
        left = await _first(chan, name, take)
        left = left if limit is None else min(limit - 1, left)
        while page:
            yield page
            page.clear()
            if left > 0:
                wanted = min(_PAGE, left)
                await _draw(
                    chan, name, wanted, partial(bell.wait_for, partial(_full, page, wanted))
                )
                left -= len(page)


def _full(page: list[Fetched], wanted: int) -> bool:
    return len(page) >= wanted


async def _first(chan: Chan, queue: str, take: Taker) -> int:
    """Take one; returns how many are left.

    Not by asking for their number: a queue that has no leader yet, after a restart, says 0, and waits for
    its leader here.
    """
    try:
        found = await chan.get(queue)
    except Lost as error:
        if error.code == 404:
            return 0
        raise
    if found is None:
        return 0
    take(*found)
    return int(found[0].message_count)


async def _draw(chan: Chan, queue: str, count: int, arrived: Callable[[], Awaitable[None]]) -> None:
    await chan.qos(count)
    # a quorum queue takes a name used before for the same consumer, with all that it still holds
    consumer = uuid.uuid4().hex
    with saying_no(f"read from {queue!r}"):
        await chan.consume(queue, consumer)
    # its deliveries come after its consume-ok; fewer come where somebody else reads, too
    with suppress(TimeoutError):
        await asyncio.wait_for(arrived(), _PATIENCE_S)
    await chan.cancel(consumer)
    await chan.qos(count)  # one more answer: what was under way has arrived before it
