"""What is ready, delayed and leased, in memory: numbers only, the bodies stay in the journal.

What is published together is ready as one span of numbers, and what is leased together shares its lease,
so a million waiting messages take next to nothing, and a leased one some 100 bytes. Times are the server's
monotonic clock, which no administrator sets.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Class(NamedTuple):
    """Messages that are leased alike. Its order is that of leasing within a queue."""

    queue: str
    priority: int
    size: int


@dataclass(slots=True, eq=False)
class Lease:
    """Of all messages of a class that were leased together, until some of them are renewed alone.

    held: how many of them nobody has ended yet.
    """

    token: int
    kind: Class
    lease_s: float
    expires: float
    held: int = 0


class _Ready:
    """Of one class, the smallest number first: spans of new ones, and a heap of those that came back."""

    def __init__(self) -> None:
        self._spans: deque[range] = deque()
        self._back: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._spans or self._back)

    def __iter__(self) -> Iterator[int]:
        return itertools.chain(self._back, *self._spans)

    def append(self, numbers: range) -> None:
        """Higher ones than all before."""
        if self._spans and self._spans[-1].stop == numbers.start:
            self._spans[-1] = range(self._spans[-1].start, numbers.stop)
        else:
            self._spans.append(numbers)

    def put_back(self, number: int) -> None:
        heapq.heappush(self._back, number)

    def take(self, most: int) -> list[int]:
        taken: list[int] = []
        while len(taken) < most and self:
            if not self._back:
                taken += self._take_new(most - len(taken))
            elif self._spans and self._spans[0].start < self._back[0]:
                until = self._back[0] - self._spans[0].start
                taken += self._take_new(min(until, most - len(taken)))
            else:
                taken.append(heapq.heappop(self._back))
        return taken

    def _take_new(self, most: int) -> range:
        first = self._spans[0]
        if len(first) <= most:
            return self._spans.popleft()
        self._spans[0] = first[most:]
        return first[:most]


class Index:
    def __init__(self) -> None:
        self._ready: dict[str, dict[Class, _Ready]] = defaultdict(dict)
        self._delayed: dict[int, tuple[float, Class]] = {}
        self._due: list[tuple[float, int]] = []
        self.leases: dict[int, Lease] = {}
        #: When a lease has to be looked at, a number that nothing else has, the lease, whom it was given for.
        self._expiries: list[tuple[float, int, Lease, list[range]]] = []
        self._looks = itertools.count()
        self._counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])

    # -- putting in and taking out ---------------------------------------------------------------

    def append(self, numbers: range, kind: Class) -> None:
        """New and ready messages, with higher numbers than all before."""
        self._ready_of(kind).append(numbers)
        self._counts[kind.queue][0] += len(numbers)

    def _ready_of(self, kind: Class) -> _Ready:
        ready = self._ready[kind.queue].get(kind)
        if ready is None:
            ready = self._ready[kind.queue][kind] = _Ready()
        return ready

    def add(self, number: int, kind: Class, due: float | None = None) -> None:
        """`due`: monotonic time before which it is not ready, or None."""
        if due is not None:
            self._delayed[number] = (due, kind)
            heapq.heappush(self._due, (due, number))
            self._counts[kind.queue][1] += 1
            return
        self._ready_of(kind).put_back(number)
        self._counts[kind.queue][0] += 1

    def take(
        self, queues: Sequence[str], limit: int, room: int | None, max_size: int | None
    ) -> list[tuple[Class, list[int]]]:
        """Up to `limit` ready messages that fit, in the order that the contract asks for."""
        taken: list[tuple[Class, list[int]]] = []
        for kind in self._classes(queues):
            if max_size is not None and kind.size > max_size:
                continue
            most = limit if room is None else min(limit, room // kind.size)
            if most <= 0:
                continue
            ready = self._ready[kind.queue][kind]
            numbers = ready.take(most)
            if not ready:
                del self._ready[kind.queue][kind]
            self._counts[kind.queue][0] -= len(numbers)
            limit -= len(numbers)
            room = None if room is None else room - kind.size * len(numbers)
            taken.append((kind, numbers))
        return taken

    def _classes(self, queues: Sequence[str]) -> list[Class]:
        rank = {queue: place for place, queue in reversed(list(enumerate(queues)))}
        kinds = [kind for queue in rank if queue in self._ready for kind in self._ready[queue]]
        return sorted(kinds, key=lambda kind: (-kind.priority, rank[kind.queue], -kind.size))

    def lease(self, numbers: Sequence[int], lease: Lease) -> None:
        self._counts[lease.kind.queue][2] += len(numbers)
        self._hold(numbers, lease)

    def _hold(self, numbers: Sequence[int], lease: Lease) -> None:
        lease.held = len(numbers)
        self.leases.update(dict.fromkeys(numbers, lease))
        self._look_at(lease, spans(numbers))

    def _look_at(self, lease: Lease, numbers: list[range]) -> None:
        heapq.heappush(self._expiries, (lease.expires, next(self._looks), lease, numbers))

    def renew(self, numbers: Sequence[int], expires: float) -> None:
        """A later expiry is found when the old one comes up; an earlier one needs an entry of its own."""
        renewed: dict[Lease, list[int]] = {}
        for number in dict.fromkeys(numbers):
            renewed.setdefault(self.leases[number], []).append(number)
        for lease, its in renewed.items():
            if lease.held > len(its):  # the others lapse as before
                lease.held -= len(its)
                self._hold(its, Lease(lease.token, lease.kind, lease.lease_s, expires))
                continue
            earlier, lease.expires = expires < lease.expires, expires
            if earlier:
                self._look_at(lease, spans(its))

    def end(
        self, receipts: Iterable[Sequence[Any]], lost: list[int]
    ) -> list[tuple[Sequence[Any], Class]]:
        """Those [number, token, ...] that still hold; the places of the others are added to `lost`."""
        ended: list[tuple[Sequence[Any], Class]] = []
        leases, counts = self.leases, self._counts
        for place, receipt in enumerate(receipts):
            number = receipt[0]
            lease = leases.get(number)
            if lease is None or lease.token != receipt[1]:
                lost.append(place)
                continue
            del leases[number]
            lease.held -= 1
            counts[lease.kind.queue][2] -= 1
            ended.append((receipt, lease.kind))
        return ended

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
        lapsed: list[int] = []
        while self._expiries and self._expiries[0][0] <= now:
            _, _, lease, numbers = heapq.heappop(self._expiries)
            if not lease.held:
                continue
            if lease.expires > now:  # renewed since
                self._look_at(lease, numbers)
                continue
            held = [n for n in itertools.chain(*numbers) if self.leases.get(n) is lease]
            self.end([(number, lease.token) for number in held], [])
            for number in held:
                self.add(number, lease.kind)
            lapsed += held
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


def spans(numbers: Sequence[int]) -> list[range]:
    """The same in the same order, those that follow one upon the other together."""
    found: list[range] = []
    first = 0
    for place in range(1, len(numbers) + 1):
        if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
            found.append(range(numbers[first], numbers[place - 1] + 1))
            first = place
    return found
