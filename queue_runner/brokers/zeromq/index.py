"""What is ready, delayed and leased, in memory: numbers only, the bodies stay in the journal.

About 100 bytes a message, so a million waiting ones take some 100 MB. Times are the server's monotonic
clock, which no administrator sets.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Class(NamedTuple):
    """Messages that are leased alike. Its order is that of leasing within a queue."""

    queue: str
    priority: int
    size: int


@dataclass(slots=True)
class Lease:
    token: int
    kind: Class
    lease_s: float
    expires: float


class Index:
    def __init__(self) -> None:
        self._ready: dict[str, dict[Class, list[int]]] = defaultdict(dict)
        self._delayed: dict[int, tuple[float, Class]] = {}
        self._due: list[tuple[float, int]] = []
        self.leases: dict[int, Lease] = {}
        self._expiries: list[tuple[float, int, int]] = []
        self._counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])

    # -- putting in and taking out ---------------------------------------------------------------

    def add(self, number: int, kind: Class, due: float | None = None) -> None:
        """`due`: monotonic time before which it is not ready, or None."""
        if due is not None:
            self._delayed[number] = (due, kind)
            heapq.heappush(self._due, (due, number))
            self._counts[kind.queue][1] += 1
            return
        heapq.heappush(self._ready[kind.queue].setdefault(kind, []), number)
        self._counts[kind.queue][0] += 1

    def take(
        self, queues: Sequence[str], limit: int, room: int | None, max_size: int | None
    ) -> list[tuple[int, Class]]:
        """Up to `limit` ready messages that fit, in the order that the contract asks for."""
        taken: list[tuple[int, Class]] = []
        for kind in self._classes(queues):
            numbers = self._ready[kind.queue][kind]
            if max_size is not None and kind.size > max_size:
                continue
            while numbers and len(taken) < limit and (room is None or kind.size <= room):
                taken.append((heapq.heappop(numbers), kind))
                room = room if room is None else room - kind.size
            if not numbers:
                del self._ready[kind.queue][kind]
        for _, kind in taken:
            self._counts[kind.queue][0] -= 1
        return taken

    def _classes(self, queues: Sequence[str]) -> list[Class]:
        rank = {queue: place for place, queue in reversed(list(enumerate(queues)))}
        kinds = [kind for queue in rank if queue in self._ready for kind in self._ready[queue]]
        return sorted(kinds, key=lambda kind: (-kind.priority, rank[kind.queue], -kind.size))

    def lease(self, number: int, lease: Lease) -> None:
        self.leases[number] = lease
        heapq.heappush(self._expiries, (lease.expires, number, lease.token))
        self._counts[lease.kind.queue][2] += 1

    def renew(self, number: int, expires: float) -> None:
        """A later expiry is found when the old one comes up; an earlier one needs an entry of its own."""
        lease = self.leases[number]
        if expires < lease.expires:
            heapq.heappush(self._expiries, (expires, number, lease.token))
        lease.expires = expires

    def end(self, number: int) -> Lease:
        lease = self.leases.pop(number)
        self._counts[lease.kind.queue][2] -= 1
        return lease

    def drain_queue(self, queue: str) -> list[int]:
        """Forget what is ready or delayed in a queue; returns the numbers."""
        gone = [number for numbers in self._ready.pop(queue, {}).values() for number in numbers]
        delayed = [number for number, (_, kind) in self._delayed.items() if kind.queue == queue]
        for number in delayed:
            del self._delayed[number]
        self._counts[queue][:2] = [0, 0]
        return gone + delayed

    # -- time ------------------------------------------------------------------------------------

    def pop_due(self, now: float) -> list[int]:
        """Delayed messages whose time has come, made ready."""
        ready = []
        while self._due and self._due[0][0] <= now:
            due, number = heapq.heappop(self._due)
            waiting = self._delayed.get(number)
            if waiting is not None and waiting[0] == due:
                del self._delayed[number]
                self._counts[waiting[1].queue][1] -= 1
                self.add(number, waiting[1])
                ready.append(number)
        return ready

    def pop_lapsed(self, now: float) -> list[int]:
        """Messages whose lease has lapsed, made ready again."""
        lapsed = []
        while self._expiries and self._expiries[0][0] <= now:
            _, number, token = heapq.heappop(self._expiries)
            lease = self.leases.get(number)
            if lease is None or lease.token != token:
                continue
            if lease.expires > now:  # renewed since
                heapq.heappush(self._expiries, (lease.expires, number, token))
                continue
            self.add(number, self.end(number).kind)
            lapsed.append(number)
        return lapsed

    def next_event(self) -> float | None:
        """When something becomes ready by itself, or earlier."""
        times = [heap[0][0] for heap in (self._due, self._expiries) if heap]
        return min(times, default=None)

    # -- counting --------------------------------------------------------------------------------

    def counts(self, queue: str) -> tuple[int, int, int]:
        """(ready, delayed, leased)"""
        ready, delayed, leased = self._counts.get(queue, (0, 0, 0))
        return ready, delayed, leased
