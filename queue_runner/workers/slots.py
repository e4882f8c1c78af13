"""Packs jobs onto the cores and the memory of a worker, and says how much more it can take.

The place is there before a job is leased, so that no worker holds what another could run. Only when
jobs are much shorter than a message's way, some are leased ahead: never more than a fraction of a
second's worth.

A job whose work is over gives up its place where it takes long to keep what it wrote: that may be on its way
to a store far away, and the cores are for computing. Where it takes a moment, as it mostly does, another job
beside that would be one more than there are cores, and both would take longer.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from queue_runner.workers.claims import Claim

#: Seconds of work that may wait here, when jobs are short.
_AHEAD_S = 0.25
_MAX_AHEAD = 2000
#: Jobs that take longer than this are never leased ahead.
_SHORT_S = 0.25
#: Seconds of work that are done in one go, where jobs may be.
_TURN_S = 0.05
#: A leased job that waited so long is given back: its predecessors were longer than expected.
_MAX_WAIT_S = 1.0
#: A job whose work has been over for so long gives up its place.
_KEEPING_S = 0.1


class Slots:
    def __init__(self, cores: int, memory_bytes: int | None) -> None:
        self.cores, self.memory_bytes = cores, memory_bytes
        self._free_cores = cores
        self._free_memory = memory_bytes
        self._waiting: deque[Claim] = deque()
        self._waiting_cores = 0
        #: Those that are not through, though their work is over: since when; and those without a place.
        self._over: dict[Claim, float] = {}
        self._placeless: set[Claim] = set()
        # each wakes those whom a change concerns: the others would take their turns only to wait again
        self._lock = threading.RLock()
        self._ready = threading.Condition(self._lock)
        self._roomy = threading.Condition(self._lock)
        self._at_rest = threading.Condition(self._lock)
        self._closed = False
        self._mean_s: float | None = None

    @property
    def free_cores(self) -> int:
        with self._lock:
            return self._free_cores

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits."""
        with self._lock:
            return self._is_at_rest() and not self._waiting

    def _is_at_rest(self) -> bool:
        return self._free_cores == self.cores and not self._placeless

    # -- the daemon's side -------------------------------------------------------------------------

    def room(self) -> int:
        """How many cores' worth of jobs may be leased now."""
        with self._lock:
            ahead = self._ahead()
            if ahead and self._waiting_cores > ahead // 2:
                return 0
            return max(0, self._free_cores + ahead - self._waiting_cores)

    def _ahead(self) -> int:
        if self._mean_s is None or self._mean_s > _SHORT_S:
            return 0
        return min(_MAX_AHEAD, int(self.cores * _AHEAD_S / max(self._mean_s, 1e-4)))

    def await_room(self, timeout_s: float) -> None:
        """Wait until there is room."""
        with self._lock:
            if self.room() <= 0:
                self._roomy.wait(timeout_s)

    def look_around(self) -> None:
        """Whoever awaits room does so no longer."""
        with self._lock:
            self._roomy.notify_all()

    def _tell_of_room(self) -> None:
        if self.room() > 0:
            self._roomy.notify_all()

    def put(self, claims: Sequence[Claim]) -> bool:
        """False where no more is taken."""
        with self._lock:
            if not self._closed:
                self._waiting.extend(claims)
                self._waiting_cores += sum(claim.cores for claim in claims)
                self._tell_runner()
            return not self._closed

    def overdue(self) -> list[Claim]:
        """Takes out what has waited too long for its place."""
        limit = time.monotonic() - _MAX_WAIT_S
        with self._lock:
            late = [claim for claim in self._waiting if claim.leased_at < limit]
            for claim in late:
                self._waiting.remove(claim)
                self._waiting_cores -= claim.cores
            if late:
                self._mean_s = None
                self._tell_runner()
        return late

    def free_of_what_takes_long(self) -> None:
        """Free the places of those whose work is over, unless as many as there are cores have none any more.
        Then more is left than is kept meanwhile, and has to be waited for.
        """
        limit = time.monotonic() - _KEEPING_S
        with self._lock:
            for claim in [each for each, since in self._over.items() if since <= limit]:
                if len(self._placeless) < self.cores:
                    del self._over[claim]
                    self._placeless.add(claim)
                    self._free_place_of(claim)

    def close(self) -> list[Claim]:
        """Ends every `take`; returns what was waiting."""
        with self._lock:
            self._closed = True
            left = list(self._waiting)
            self._waiting.clear()
            self._waiting_cores = 0
            self._ready.notify_all()
            self._tell_of_room()
        return left

    def await_idle(self, timeout_s: float) -> bool:
        """Whether all that runs ended within the time."""
        with self._lock:
            return self._at_rest.wait_for(self._is_at_rest, timeout_s)

    # -- the runners' side -------------------------------------------------------------------------

    def take(self) -> list[Claim]:
        """The next job, once it has its place; none when this worker is stopping.

        With it those behind it that may take its place after it, one after another, in a short time.
        """
        with self._lock:
            while not self._closed:
                if self._next_fits():
                    claim = self._taken()
                    self._free_cores -= claim.cores
                    if self._free_memory is not None:
                        self._free_memory -= claim.memory_bytes
                    taken = [claim, *self._followers(claim)]
                    self._tell_runner()
                    return taken
                self._ready.wait()
        return []

    def _tell_runner(self) -> None:
        """One, who tells the next. For whoever changes what is first in line, or what is free."""
        if self._next_fits():
            self._ready.notify()

    def take_behind(self, claim: Claim) -> list[Claim]:
        """Those that take the place of this one after it, with all that was taken with it; none where it is
        others' turn.
        """
        with self._lock:
            next_ = self._waiting[0].lane if self._waiting and not self._closed else None
            taken = self._followers(claim) if next_ == claim.lane else []
            self._tell_runner()
            return taken

    def _followers(self, first: Claim) -> list[Claim]:
        if first.lane is None or self._mean_s is None:
            return []
        # what waits is shared among the cores
        most = min(int(_TURN_S / max(self._mean_s, 1e-4)), len(self._waiting) // self.cores)
        followers: list[Claim] = []
        while len(followers) < most and self._waiting[0].lane == first.lane:
            followers.append(self._taken())
        return followers

    def _taken(self) -> Claim:
        claim = self._waiting.popleft()
        self._waiting_cores -= claim.cores
        return claim

    def _next_fits(self) -> bool:
        if not self._waiting:
            return False
        claim = self._waiting[0]
        memory = self._free_memory is None or claim.memory_bytes <= self._free_memory
        return memory and claim.cores <= self._free_cores

    def work_is_over(self, claim: Claim) -> None:
        """Of one that was taken alone, and is not through yet."""
        with self._lock:
            self._over[claim] = time.monotonic()

    def free(self, claim: Claim) -> None:
        """claim: the first of what was taken, which is through."""
        with self._lock:
            self._over.pop(claim, None)
            if claim in self._placeless:
                self._placeless.remove(claim)
            else:
                self._free_place_of(claim)
            if self._is_at_rest():
                self._at_rest.notify_all()

    def _free_place_of(self, claim: Claim) -> None:
        self._free_cores += claim.cores
        if self._free_memory is not None:
            self._free_memory += claim.memory_bytes
        self._tell_runner()
        self._tell_of_room()

    def took(self, took_s: float) -> None:
        """Of what was taken, each took so many seconds."""
        with self._lock:
            self._mean_s = took_s if self._mean_s is None else 0.9 * self._mean_s + 0.1 * took_s
            if took_s > _SHORT_S:
                self._mean_s = max(self._mean_s, took_s)
            self._tell_of_room()
