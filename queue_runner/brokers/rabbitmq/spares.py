"""Deliveries that came and that no `lease` call could take.

They arise where several lanes answer at once, or a message comes while its consumer is being closed.
The next call they fit gets them; after a second, when consumers that stayed for the next call are closed
because none came, and before this client counts, they go back without counting as an attempt: a copy is
published, confirmed, and then the delivery acknowledged. (Returning it would count.)
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from queue_runner.brokers.rabbitmq.bell import Bell
from queue_runner.brokers.rabbitmq.io_thread import IoThread
from queue_runner.brokers.rabbitmq.taps import Claim, State
from queue_runner.brokers.rabbitmq.topology import Lane

_KEEP_S = 1.0

#: Publishes copies of claims and acknowledges them.
GiveBack = Callable[[Sequence[Claim]], Coroutine[Any, Any, None]]


class Spares:
    def __init__(self, io: IoThread, bell: Bell, give_back: GiveBack) -> None:
        self._io = io
        self._bell = bell
        self._give_back = give_back
        self._claims: defaultdict[Lane, list[Claim]] = defaultdict(list)
        self._returning: set[asyncio.Task[None]] = set()

    def put(self, claim: Claim) -> None:
        if claim.state is not State.SPARE:
            return  # its channel is gone, and it with it
        self._claims[claim.lane].append(claim)
        asyncio.get_running_loop().call_later(_KEEP_S, self._expire, claim)
        self._bell.ring()

    def any(self, lanes: Iterable[Lane]) -> bool:
        return any(self.count(lane) for lane in lanes)

    def count(self, lane: Lane) -> int:
        return len(self._alive(lane))

    def take(self, shares: Mapping[Lane, int]) -> list[Claim]:
        """The oldest of each lane, as many as its share."""
        taken = []
        for lane, share in shares.items():
            alive = self._alive(lane)
            taken += alive[:share]
            self._claims[lane] = alive[share:]
        return taken

    async def empty(self) -> None:
        """Give all back now, and wait for those on their way: there are two of what is broken off then."""
        claims = [claim for lane in list(self._claims) for claim in self._alive(lane)]
        self._claims.clear()
        self._return(claims)
        if self._returning:
            await asyncio.wait(self._returning)

    def _alive(self, lane: Lane) -> list[Claim]:
        alive = [claim for claim in self._claims.get(lane, ()) if claim.state is State.SPARE]
        self._claims[lane] = alive
        return alive

    def _expire(self, claim: Claim) -> None:
        if claim in self._alive(claim.lane):
            self._claims[claim.lane].remove(claim)
            self._return([claim])

    def _return(self, claims: Sequence[Claim]) -> None:
        if claims:
            task = self._io.spawn(self._give_back(claims))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)
