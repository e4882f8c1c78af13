"""What each operation does to journal and index. Called inside a journal transaction, by one thread.

Delays are stored as wall-clock times, since they must outlast a restart; while the server runs they are
awaited by the monotonic clock. A lease's end is not stored: after a restart every lease that was running
gets its full time again, so that no worker loses a job because the server was upgraded.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from queue_runner.brokers.zeromq.index import Class, Index, Lease
from queue_runner.brokers.zeromq.journal import Journal, NewMessage
from queue_runner.brokers.zeromq.protocol import CHUNK_BYTES

Clock = Callable[[], float]

#: [number, token]: what a client's receipt holds.
Receipt = Sequence[int]


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
        for row in self._journal.messages():
            kind = Class(row.queue, row.priority, row.size)
            self._note_length(row.queue, row.length)
            if row.token is not None and row.lease_s is not None:
                known = before.get(row.id)
                same = known is not None and known.token == row.token
                expires = known.expires if known is not None and same else now + row.lease_s
                self.index.lease(row.id, Lease(row.token, kind, row.lease_s, expires))
            else:
                due = None if row.due is None or row.due <= wall else now + row.due - wall
                self.index.add(row.id, kind, due)
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

    def publish(self, messages: Sequence[Sequence[Any]]) -> None:
        """Each: [queue, body, size, priority, delay_s, attempt]."""
        rows: list[NewMessage] = []
        now, wall = self._clock(), time.time()
        for queue, body, size, priority, delay_s, attempt in messages:
            self._last_id += 1
            self._note_length(queue, len(body))
            due = delay_s if delay_s > 0 else None
            stored_due = None if due is None else wall + due
            rows.append((self._last_id, queue, priority, size, attempt, stored_due, body))
            kind = Class(queue, priority, size)
            self.index.add(self._last_id, kind, None if due is None else now + due)
        self._journal.add(rows)

    def lease(
        self,
        queues: Sequence[str],
        limit: int,
        lease_s: float,
        room: int | None,
        max_size: int | None,
    ) -> list[list[Any]]:
        """Each: [number, token, queue, body, size, priority, attempt]."""
        taken = self._some(self.index.take(queues, limit, room, max_size))
        if not taken:
            return []
        bodies = self._journal.bodies([number for number, _ in taken])
        expires = self._clock() + lease_s
        leased, rows = [], []
        for number, kind in taken:
            self._token += 1
            self.index.lease(number, Lease(self._token, kind, lease_s, expires))
            rows.append((number, self._token, lease_s))
            attempt, body = bodies[number]
            leased.append(
                [number, self._token, kind.queue, body, kind.size, kind.priority, attempt]
            )
        self._journal.add_leases(rows)
        return leased

    def _some(self, taken: list[tuple[int, Class]]) -> list[tuple[int, Class]]:
        """As many of them as fit into one answer, at least one; the others are ready as before."""
        if sum(self._longest[kind.queue] for _, kind in taken) <= CHUNK_BYTES:
            return taken
        lengths = self._journal.lengths([number for number, _ in taken])
        left = CHUNK_BYTES
        for place, (number, _) in enumerate(taken):
            left -= lengths[number]
            if left < 0 and place:
                for each, kind in taken[place:]:
                    self.index.add(each, kind)
                return taken[:place]
        return taken

    def renew(self, receipts: Sequence[Receipt], lease_s: float) -> list[int]:
        """Places in `receipts` of those that were lost."""
        expires = self._clock() + lease_s
        lost = []
        for place, (number, token) in enumerate(receipts):
            if self._holds(number, token):
                self.index.renew(number, expires)
            else:
                lost.append(place)
        return lost

    def settle(
        self,
        done: Sequence[Receipt],
        retry: Sequence[Sequence[Any]],
        dead: Sequence[Sequence[Any]],
        publish: Sequence[Sequence[Any]],
    ) -> list[list[int]]:
        """retry: [number, token, delay_s, counted]; dead: [number, token, reason].

        Returns the places that were lost in `done`, `retry` and `dead`.
        """
        self.publish(publish)
        lost: list[list[int]] = [[], [], []]
        finished = [r[0] for r in self._held(done, lost[0])]
        self._end_leases(finished)
        self._journal.remove(finished)
        self._give_back(self._held(retry, lost[1]))
        self._bury(self._held(dead, lost[2]))
        return lost

    def _held(self, receipts: Sequence[Sequence[Any]], lost: list[int]) -> list[Sequence[Any]]:
        held, seen = [], set()
        for place, receipt in enumerate(receipts):
            number, token = receipt[0], receipt[1]
            if number not in seen and self._holds(number, token):
                seen.add(number)
                held.append(receipt)
            else:
                lost.append(place)
        return held

    def _holds(self, number: int, token: int) -> bool:
        lease = self.index.leases.get(number)
        return lease is not None and lease.token == token

    def _end_leases(self, numbers: Sequence[int]) -> dict[int, Class]:
        self._journal.remove_leases(numbers)
        return {number: self.index.end(number).kind for number in numbers}

    def _give_back(self, retries: Sequence[Sequence[Any]]) -> None:
        kinds = self._end_leases([r[0] for r in retries])
        self._journal.count_attempts([r[0] for r in retries if r[3]])
        now, wall = self._clock(), time.time()
        delayed = [(wall + delay_s, number) for number, _, delay_s, _ in retries if delay_s > 0]
        self._journal.set_due(delayed)
        for number, _, delay_s, _ in retries:
            self.index.add(number, kinds[number], now + delay_s if delay_s > 0 else None)

    def _bury(self, letters: Sequence[Sequence[Any]]) -> None:
        kinds = self._end_leases([letter[0] for letter in letters])
        self._journal.bury([(letter[2], letter[0]) for letter in letters])
        for kind in kinds.values():
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
        self._give_back([[entry[0], entry[1], 0.0, False] for entry in leased])
