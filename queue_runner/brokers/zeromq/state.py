"""What each operation does to journal and index. Called inside a journal transaction, by one thread.

Delays are stored as wall-clock times, since they must outlast a restart; while the server runs they are
awaited by the monotonic clock. A lease's end is not stored: after a restart every lease that was running
gets its full time again, so that no worker loses a job because the server was upgraded.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from queue_runner.brokers.zeromq.index import Class, Index, Lease, spans
from queue_runner.brokers.zeromq.journal import Journal, LeasedRow, NewMessage
from queue_runner.brokers.zeromq.protocol import CHUNK_BYTES

Clock = Callable[[], float]

#: Numbers, and a token for each: what clients' receipts hold.
Receipts = Sequence[Sequence[int]]


class State:
    def __init__(self, journal: Journal, *, release_leases: bool = False, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        # tokens start anywhere, so that receipts from before a restart match nothing by chance
        self._token = secrets.randbits(48)
        if release_leases:
            with journal.transaction():
                self._release_all()
        self.load()

    def load(self) -> None:
        """Build the index from the journal: at the start, and after a transaction that failed."""
        before = getattr(self, "index", Index()).leases
        self.index = Index()
        #: Bytes of the longest body so far in each queue, so that few lengths have to be asked for.
        self._longest: dict[str, int] = {}
        now, wall = self._clock(), time.time()
        leased: dict[tuple[int, Class, float, float], list[int]] = {}
        for row in self._journal.messages():
            kind = Class(row.queue, row.priority, row.size)
            self._note_length(row.queue, row.length)
            if row.token is not None and row.lease_s is not None:
                known = before.get(row.id)
                same = known is not None and known.token == row.token
                expires = known.expires if known is not None and same else now + row.lease_s
                leased.setdefault((row.token, kind, row.lease_s, expires), []).append(row.id)
            elif row.due is None or row.due <= wall:
                self.index.append(range(row.id, row.id + 1), kind)
            else:
                self.index.add(row.id, kind, now + row.due - wall)
        for lease, numbers in leased.items():
            self.index.lease(numbers, Lease(*lease))
        self.dead = self._journal.dead_counts()
        self._last_id = self._journal.last_id()

    def _note_length(self, queue: str, length: int) -> None:
        if length > self._longest.get(queue, -1):
            self._longest[queue] = length

    def _release_all(self) -> None:
        leased = [row.id for row in self._journal.messages() if row.token is not None]
        self._journal.count_attempts(leased)
        self._journal.remove_leases(leased)

    # -- the contract ----------------------------------------------------------------------------

    def publish(self, bundles: Sequence[Sequence[Any]]) -> None:
        """Each: [queue, size, priority, delay_s, attempt, bodies]."""
        rows: list[NewMessage] = []
        now, wall = self._clock(), time.time()
        for queue, size, priority, delay_s, attempt, bodies in bundles:
            self._note_length(queue, max(map(len, bodies)))
            kind = Class(queue, priority, size)
            numbers = range(self._last_id + 1, self._last_id + 1 + len(bodies))
            self._last_id = numbers[-1]
            due = wall + delay_s if delay_s > 0 else None
            rows += [
                (number, queue, priority, size, attempt, due, body)
                for number, body in zip(numbers, bodies, strict=True)
            ]
            if due is None:
                self.index.append(numbers, kind)
                continue
            for number in numbers:
                self.index.add(number, kind, now + delay_s)
        self._journal.add(rows)

    def lease(
        self,
        queues: Sequence[str],
        limit: int,
        lease_s: float,
        room: int | None,
        max_size: int | None,
    ) -> list[list[Any]]:
        """Each: [queue, size, priority, token, numbers, attempts, bodies]."""
        taken = self._some(self.index.take(queues, limit, room, max_size))
        expires = self._clock() + lease_s
        self._token += bool(taken)
        leased: list[list[Any]] = []
        for kind, numbers in taken:
            self.index.lease(numbers, Lease(self._token, kind, lease_s, expires))
            rows: list[LeasedRow] = []
            for some in spans(numbers):
                rows += self._journal.lease(some, self._token, lease_s)
            columns = zip(*rows, strict=True)
            leased.append([kind.queue, kind.size, kind.priority, self._token, *columns])
        return leased

    def _some(self, taken: list[tuple[Class, list[int]]]) -> list[tuple[Class, list[int]]]:
        """As many of them as fit into one answer, at least one; the others are ready as before."""
        if sum(self._longest[kind.queue] * len(each) for kind, each in taken) <= CHUNK_BYTES:
            return taken
        left = CHUNK_BYTES
        kept: list[tuple[Class, list[int]]] = []
        for kind, numbers in taken:
            count = 0
            for length in itertools.chain.from_iterable(map(self._journal.lengths, spans(numbers))):
                left -= length
                if left < 0 and (kept or count):
                    break
                count += 1
            if count:
                kept.append((kind, numbers[:count]))
            for number in numbers[count:]:
                self.index.add(number, kind)
        return kept

    def renew(self, receipts: Receipts, lease_s: float) -> list[int]:
        """Places in `receipts` of those that were lost."""
        expires = self._clock() + lease_s
        held, lost = [], []
        for place, (number, token) in enumerate(zip(*receipts, strict=True)):
            if self._holds(number, token):
                held.append(number)
            else:
                lost.append(place)
        self.index.renew(held, expires)
        return lost

    def settle(
        self,
        done: Receipts,
        retry: Sequence[Sequence[Any]],
        dead: Sequence[Sequence[Any]],
        publish: Sequence[Sequence[Any]],
    ) -> list[list[int]]:
        """retry: [number, token, delay_s, counted]; dead: [number, token, reason].

        Returns the places that were lost in `done`, `retry` and `dead`.
        """
        self.publish(publish)
        lost: list[list[int]] = [[], [], []]
        finished = [receipt[0] for receipt, _ in self.index.end(zip(*done, strict=True), lost[0])]
        self._journal.remove_leases(finished)
        self._journal.remove(finished)
        self._give_back(retry, lost[1])
        self._bury(dead, lost[2])
        return lost

    def _holds(self, number: int, token: int) -> bool:
        lease = self.index.leases.get(number)
        return lease is not None and lease.token == token

    def _give_back(self, retries: Sequence[Sequence[Any]], lost: list[int]) -> None:
        ended = self.index.end(retries, lost)
        self._journal.remove_leases([retry[0] for retry, _ in ended])
        self._journal.count_attempts([retry[0] for retry, _ in ended if retry[3]])
        now, wall = self._clock(), time.time()
        delayed = [(wall + retry[2], retry[0]) for retry, _ in ended if retry[2] > 0]
        self._journal.set_due(delayed)
        for (number, _, delay_s, _), kind in ended:
            self.index.add(number, kind, now + delay_s if delay_s > 0 else None)

    def _bury(self, letters: Sequence[Sequence[Any]], lost: list[int]) -> None:
        ended = self.index.end(letters, lost)
        self._journal.remove_leases([letter[0] for letter, _ in ended])
        self._journal.bury([(letter[2], letter[0]) for letter, _ in ended])
        for _, kind in ended:
            self.dead[kind.queue] = self.dead.get(kind.queue, 0) + 1

    def depth(self, queue: str) -> list[int]:
        """[ready, delayed, leased, dead]"""
        return [*self.index.counts(queue), self.dead.get(queue, 0)]

    def dead_letters(self, queue: str, limit: int, after: int) -> list[list[Any]]:
        """Those with a higher id than `after`, as many as fit into an answer.

        Each: [id, queue, body, size, priority, attempt, reason, at].
        """
        return [
            [row.id, row.queue, row.body, row.size, row.priority, row.attempt, row.reason, row.at]
            for row in self._journal.dead(queue, limit, after, CHUNK_BYTES)
        ]

    def replay(self, queue: str, ids: Sequence[int] | None) -> int:
        numbers = self._journal.dead_ids(queue, ids)
        for number in numbers:
            row = self._journal.raise_dead(number)
            self._note_length(row.queue, row.length)
            self.index.add(number, Class(row.queue, row.priority, row.size))
        self.dead[queue] = self.dead.get(queue, 0) - len(numbers)
        return len(numbers)

    def purge(self, queue: str) -> int:
        gone = self.index.drain_queue(queue)
        self._journal.remove(gone)
        return len(gone)

    # -- by itself -------------------------------------------------------------------------------

    def tick(self) -> None:
        """Make ready what is due, and take back what was not renewed."""
        now = self._clock()
        self.index.pop_due(now)
        lapsed = self.index.pop_lapsed(now)
        self._journal.count_attempts(lapsed)
        self._journal.remove_leases(lapsed)

    def undo_lease(self, leased: Sequence[Sequence[Any]]) -> None:
        """Give back, uncounted, what could not be handed to its client."""
        retries = [
            (number, token, 0.0, False)
            for _, _, _, token, numbers, _, _ in leased
            for number in numbers
        ]
        self._give_back(retries, [])
