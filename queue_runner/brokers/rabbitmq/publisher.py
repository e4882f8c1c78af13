"""Publishing with confirms: thousands of messages on their way at once, each accounted for.

https://www.rabbitmq.com/docs/confirms
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from pika import spec

from queue_runner.brokers.rabbitmq.bell import Bell
from queue_runner.brokers.rabbitmq.chan import Chan
from queue_runner.brokers.rabbitmq.envelope import Letter
from queue_runner.brokers.rabbitmq.link import Link
from queue_runner.brokers.rabbitmq.lost import Lost, refusal

#: What may be on its way unconfirmed, over all callers: enough to keep a quorum queue's log busy,
#: little enough that this process stays small.
_WINDOW_MESSAGES = 4000
_WINDOW_BYTES = 32 * 1024 * 1024

#: So many are encoded before the I/O thread looks after heartbeats and confirms again.
_SLICE = 100

#: Called with the letters that no queue took, to declare what is missing.
Repair = Callable[[Sequence[Letter]], Awaitable[None]]

#: Called with every new channel, before anything is published on it.
Prepare = Callable[[Chan], Awaitable[None]]


class _Batch:
    """What one call has on its way on one channel. left: those that have not been stored."""

    def __init__(self) -> None:
        self.left: list[Letter] = []
        self.unroutable: list[Letter] = []
        self.nacked = 0
        self.on_their_way = 0
        self.sent = False
        self.over = asyncio.Event()

    def landed(self) -> None:
        self.on_their_way -= 1
        if self.sent and self.on_their_way == 0:
            self.over.set()


class Publisher:
    """One channel in confirm mode on `link`; any number of calls share it.

    `trouble`: why the last messages have not been confirmed.
    """

    def __init__(self, link: Link, prepare: Prepare | None = None) -> None:
        self.trouble: str | None = None
        self._link = link
        self._prepare = prepare
        self._chan: Chan | None = None
        self._opening = asyncio.Lock()
        self._next_tag = 1
        self._pending: dict[int, tuple[_Batch, Letter]] = {}
        self._pending_bytes = 0
        self._returned: set[str] = set()
        self._freed = Bell()

    async def send(self, letters: Sequence[Letter], repair: Repair | None = None) -> None:
        """Returns when the server has confirmed all; tries for ever, the caller has the deadline.

        With `repair` a letter has to reach a queue; without, nobody need be listening.
        """
        left = letters
        pause_s = 0.01
        while left:
            batch = await self._attempt(left, mandatory=repair is not None)
            left = batch.left
            self.trouble = _trouble(batch)
            if batch.unroutable and repair is not None:
                await repair(batch.unroutable)
            elif left:
                await asyncio.sleep(pause_s)
                pause_s = min(1.0, 2 * pause_s)

    async def _attempt(self, letters: Sequence[Letter], mandatory: bool) -> _Batch:
        batch, put = _Batch(), 0
        try:
            chan = await self._ready()
            for letter in letters:
                if not self._fits(letter):
                    await self._freed.wait_for(partial(self._fits, letter))
                if put % _SLICE == _SLICE - 1:
                    await asyncio.sleep(0)
                self._put(chan, batch, letter, mandatory)
                put += 1
        except Lost as error:
            _give_up_where_refused(error)
        batch.sent = True
        if batch.on_their_way:
            await batch.over.wait()
            if chan.gone is not None:
                _give_up_where_refused(chan.gone)
        batch.left += letters[put:]
        return batch

    def _put(self, chan: Chan, batch: _Batch, letter: Letter, mandatory: bool) -> None:
        chan.put(letter.exchange, letter.routing_key, letter.body, letter.properties, mandatory)
        self._pending[self._next_tag] = (batch, letter)
        self._next_tag += 1
        self._pending_bytes += len(letter.body)
        batch.on_their_way += 1

    def _fits(self, letter: Letter) -> bool:
        return not self._pending or (
            len(self._pending) < _WINDOW_MESSAGES
            and self._pending_bytes + len(letter.body) <= _WINDOW_BYTES
        )

    async def _ready(self) -> Chan:
        async with self._opening:
            if self._chan is None or self._chan.gone is not None:
                self._chan = await self._open()
            return self._chan

    async def _open(self) -> Chan:
        chan = await self._link.channel()
        chan.raw.add_on_return_callback(self._on_return)
        if self._prepare is not None:
            await self._prepare(chan)
        await chan.confirm(self._on_answer)
        self._next_tag = 1
        chan.on_lost.append(self._on_lost)
        return chan

    def _on_return(self, _: Any, method: Any, props: Any, body: bytes) -> None:
        # comes before the confirm of the same message
        self._returned.add(props.message_id)

    def _on_answer(self, frame: Any) -> None:
        method, tag = frame.method, frame.method.delivery_tag
        # `_pending` is in the order of its tags
        tags = list(itertools.takewhile(tag.__ge__, self._pending)) if method.multiple else [tag]
        stored = isinstance(method, spec.Basic.Ack)
        for tag in tags:
            batch, letter = self._pending.pop(tag)
            self._pending_bytes -= len(letter.body)
            # one that was returned is confirmed, too
            if self._returned and letter.properties.message_id in self._returned:
                self._returned.discard(letter.properties.message_id)
                batch.unroutable.append(letter)
                batch.left.append(letter)
            elif not stored:
                batch.nacked += 1
                batch.left.append(letter)
            batch.landed()
        self._freed.ring()

    def _on_lost(self) -> None:
        pending, self._pending, self._pending_bytes = self._pending, {}, 0
        self._returned.clear()
        for batch, letter in pending.values():
            batch.left.append(letter)
            batch.landed()
        self._freed.ring()


def _give_up_where_refused(gone: Lost) -> None:
    refused = refusal("publish", gone) if gone.code == 403 else None
    if refused is not None:
        raise refused from gone


def _trouble(batch: _Batch) -> str | None:
    if batch.nacked:
        return (
            f"the server refused {batch.nacked} messages (nack): a queue is over its length limit,"
            " or a cluster has lost the majority of its nodes"
        )
    if batch.unroutable:
        return f"no queue took {len(batch.unroutable)} messages, and declaring it did not help"
    return None
