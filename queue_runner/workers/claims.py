"""What a worker has leased, from the lease to the settlement, and the jobs that are to be cancelled."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from queue_runner.brokers.base import Delivery
from queue_runner.model import Cancel, Job, RunningJob
from queue_runner.workers.runtimes.base import Stop

#: Cancels that are remembered; the collector repeats those that still matter.
_MAX_CANCELS = 100_000

CANCELLED = "cancelled"
LOST = "its lease was lost"
DRAINED = "the worker is stopping"


@dataclass(slots=True, eq=False)
class Claim:
    """A leased job. `stop` is there once it runs; `lost`: somebody else may have it by now."""

    delivery: Delivery
    job: Job
    leased_at: float = field(default_factory=time.monotonic)
    started_at: float | None = None
    stop: Stop | None = None
    lost: bool = False

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

    def add(self, claim: Claim) -> None:
        with self._lock:
            self._claims[id(claim.delivery)] = claim

    def remove(self, deliveries: Iterable[Delivery]) -> None:
        with self._lock:
            for delivery in deliveries:
                self._claims.pop(id(delivery), None)

    def deliveries(self) -> list[Delivery]:
        with self._lock:
            return [claim.delivery for claim in self._claims.values() if not claim.lost]

    def lose(self, deliveries: Iterable[Delivery]) -> list[Claim]:
        """Mark claims as lost, and stop what runs for them; returns those that were held until now."""
        lost = []
        with self._lock:
            for delivery in deliveries:
                claim = self._claims.get(id(delivery)) or self._equal(delivery)
                if claim is not None and not claim.lost:
                    claim.lost = True
                    lost.append(claim)
        for claim in lost:
            if claim.stop is not None:
                claim.stop.throw(LOST)
        return lost

    def _equal(self, delivery: Delivery) -> Claim | None:
        return next((c for c in self._claims.values() if c.delivery == delivery), None)

    def start(self, claim: Claim) -> Stop:
        """Note that a claim begins to run. The `Stop` is thrown already where it should not."""
        stop = Stop()
        with self._lock:
            claim.started_at, claim.stop = time.time(), stop
            lost, cancelled = claim.lost, self._is_cancelled(claim.job)
        if lost or cancelled:
            stop.throw(LOST if lost else CANCELLED)
        return stop

    def running(self) -> tuple[RunningJob, ...]:
        with self._lock:
            return tuple(
                RunningJob(claim.job.id, claim.job.study, claim.delivery.attempt, claim.started_at)
                for claim in self._claims.values()
                if claim.started_at is not None and claim.stop is not None
            )

    def finish(self, claim: Claim) -> None:
        """Note that a claim does not run any more; it is still held until it is settled."""
        with self._lock:
            stop, claim.stop = claim.stop, None
        if stop is not None:
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
        return (job.study, "") in self._cancelled or (job.study, job.id) in self._cancelled
