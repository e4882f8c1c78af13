"""What a worker has leased, from the lease to the settlement, and the jobs that are to be cancelled."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from queue_runner.brokers.base import Delivery
from queue_runner.model import Cancel, Job, RunningJob
from queue_runner.workers.runtimes.base import CANCELLED, LOST, Stop

#: Cancels that are remembered; the collector repeats those that still matter.
_MAX_CANCELS = 100_000


@dataclass(slots=True, eq=False)
class Claim:
    """A leased job. `stop` is there once it runs; `lost`: somebody else may have it by now; `ending`: it is
    about to be settled.
    """

    delivery: Delivery
    job: Job
    leased_at: float = field(default_factory=time.monotonic)
    started_at: float | None = None
    stop: Stop | None = None
    lost: bool = False
    ending: bool = False
    #: What it has in common with those that may be done together with it; None for none.
    lane: Hashable | None = None

    @property
    def cores(self) -> int:
        return self.job.resources.cores

    @property
    def memory_bytes(self) -> int:
        return self.job.resources.memory_bytes or 0


class Claims:
    """All claims of a worker. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[int, Claim] = {}
        self._cancelled: OrderedDict[tuple[str, str], None] = OrderedDict()

    def add(self, claims: Iterable[Claim]) -> None:
        with self._lock:
            for claim in claims:
                self._claims[id(claim.delivery)] = claim

    def remove(self, deliveries: Iterable[Delivery]) -> list[Claim]:
        """Returns those that were there."""
        with self._lock:
            removed = [self._claims.pop(id(delivery), None) for delivery in deliveries]
        return [claim for claim in removed if claim is not None]

    def end(self, delivery: Delivery) -> None:
        """Note that a claim is about to be settled."""
        with self._lock:
            if (claim := self._claims.get(id(delivery))) is not None:
                claim.ending = True

    def count(self) -> int:
        return len(self._claims)

    def ending(self) -> int:
        """How many are done, and wait for the broker to take that."""
        with self._lock:
            return sum(claim.ending for claim in self._claims.values())

    def deliveries(self) -> list[Delivery]:
        with self._lock:
            return [claim.delivery for claim in self._claims.values() if not claim.lost]

    def lose(self, deliveries: Iterable[Delivery]) -> list[Claim]:
        """Mark claims as lost, and stop what runs for them; returns those that were held until now.

        Those that are ending are left out: they are no longer there because they have just been settled, or
        the settlement will tell.
        """
        lost = []
        with self._lock:
            for delivery in deliveries:
                claim = self._claims.get(id(delivery)) or self._equal(delivery)
                if claim is not None and not claim.lost and not claim.ending:
                    claim.lost = True
                    lost.append(claim)
        for claim in lost:
            if claim.stop is not None:
                claim.stop.throw(LOST)
        return lost

    def _equal(self, delivery: Delivery) -> Claim | None:
        return next((c for c in self._claims.values() if c.delivery == delivery), None)

    def start(self, claims: Sequence[Claim]) -> Stop:
        """Note that claims begin to run, which one `Stop` ends. It is thrown already where one of them
        should not.
        """
        stop, now = Stop(), time.time()
        with self._lock:
            for claim in claims:
                claim.started_at, claim.stop = now, stop
            why = next((why for claim in claims if (why := self._why_not(claim))), None)
        if why is not None:
            stop.throw(why)
        return stop

    def _why_not(self, claim: Claim) -> str | None:
        if claim.lost:
            return LOST
        return CANCELLED if self._is_cancelled(claim.job) else None

    def running(self) -> tuple[RunningJob, ...]:
        with self._lock:
            return tuple(
                RunningJob(claim.job.id, claim.job.study, claim.delivery.attempt, claim.started_at)
                for claim in self._claims.values()
                if claim.started_at is not None and claim.stop is not None
            )

    def put_off(self, claims: Sequence[Claim]) -> None:
        """Note that claims which were about to run still wait."""
        with self._lock:
            for claim in claims:
                claim.started_at = claim.stop = None

    def finish(self, claims: Sequence[Claim]) -> None:
        """Note that claims do not run any more; they are still held until they are settled."""
        with self._lock:
            stops = {claim.stop for claim in claims if claim.stop is not None}
            for claim in claims:
                claim.stop = None
        for stop in stops:
            stop.close()

    def stop_all(self, reason: str) -> None:
        with self._lock:
            stops = [claim.stop for claim in self._claims.values() if claim.stop is not None]
        for stop in stops:
            stop.throw(reason)

    # -- cancels -----------------------------------------------------------------------------------

    def cancel(self, cancel: Cancel) -> None:
        """Remember a cancel, and stop what runs and is meant; or forget one that was lifted."""
        keys = [(cancel.study, job) for job in cancel.jobs or ("",)]
        with self._lock:
            for key in keys:
                self._cancelled.pop(key, None)
                if not cancel.lifted:
                    self._cancelled[key] = None
            while len(self._cancelled) > _MAX_CANCELS:
                self._cancelled.popitem(last=False)
            meant = [c for c in self._claims.values() if c.stop and self._is_cancelled(c.job)]
            stops = [claim.stop for claim in meant if claim.stop is not None]
        for stop in stops:
            stop.throw(CANCELLED)

    def is_cancelled(self, job: Job) -> bool:
        with self._lock:
            return self._is_cancelled(job)

    def _is_cancelled(self, job: Job) -> bool:
        if not self._cancelled:
            return False
        return (job.study, "") in self._cancelled or (job.study, job.id) in self._cancelled
