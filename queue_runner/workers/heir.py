"""A worker's part in being started anew: what it leaves to its successor, and takes from its predecessor.

A job that goes on meanwhile is a message in its queue all the same, which says who holds it and for how
long yet. Others put it back, a little later each time: so no clocks are compared, and a worker that never
comes back loses the job.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import replace

from queue_runner.brokers.base import MAX_PRIORITY, Message
from queue_runner.errors import EngineUnavailable, FixThis, KeysRefused
from queue_runner.model import Job
from queue_runner.signing import Seal, on_queue
from queue_runner.wire import encode
from queue_runner.workers.claims import Claim
from queue_runner.workers.handover import Handovers
from queue_runner.workers.leavings import remove
from queue_runner.workers.runtimes.base import Runtime
from queue_runner.workers.settler import Ending

log = logging.getLogger("queue_runner.worker")

#: Seconds between two looks of others at a job that is not for them. Not always as long: workers that ask for
#: jobs as often as this one comes back take turns without end, and the same worker is always first.
_LOOKS_S = (0.5, 1.0, 1.5)


def look_s() -> float:
    """How long a job that is not for this worker is left before it is offered again, to anyone."""
    return random.choice(_LOOKS_S)


class Heir:
    """within_s: seconds for which this worker's jobs are left to its successor; None for not at all.

    Raises `FixThis` for a runtime that cannot do that.
    """

    def __init__(self, runtime: Runtime, worker: str, within_s: float | None, seal: Seal) -> None:
        if within_s is not None and not runtime.hands_over:
            raise FixThis("jobs can be handed over where they are containers: --runtime docker")
        self._runtime, self._worker, self._within_s, self._seal = runtime, worker, within_s, seal
        self.handovers = None if within_s is None else Handovers(runtime.folder)
        self.handing_over = False
        self._overdue_at = time.monotonic() + (within_s or 0.0)

    # -- what was left by the predecessor, and by others -------------------------------------------

    def left_to_others(self, claim: Claim) -> Ending | None:
        """The end of a claim on a job that another worker holds; None where this one may run it."""
        job = claim.job
        if job.held_by in (None, self._worker) or job.held_s <= 0:
            return None
        pause_s = min(look_s(), job.held_s)
        held = replace(job, held_s=job.held_s - pause_s)
        return self._republished(claim, held, delay_s=pause_s)

    def end_overdue(self) -> None:
        """End what goes on without anybody, for its job has not come back."""
        if self.handovers is not None and time.monotonic() >= self._overdue_at:
            for job_id in self.handovers.job_ids():
                log.warning(
                    "%s was handed over and has not come back: its container is ended", job_id
                )
                self.end(job_id)

    def end(self, job_id: str) -> None:
        """End what the predecessor has left running of a job, if anything."""
        handed = None if self.handovers is None else self.handovers.take(job_id)
        if handed is None:
            return
        try:
            self._runtime.abandon(job_id)
        except EngineUnavailable as error:
            log.warning("%s: its container is left to the end of this worker: %s", job_id, error)
        remove(self._runtime.folder / handed.folder)

    # -- what is left to the successor --------------------------------------------------------------

    def left_to_successor(self, claim: Claim) -> Ending | None:
        """The end of a claim on a job that goes on without this worker; None where none of it does."""
        if self.handovers is None or self._within_s is None or not self.handovers.has(claim.job.id):
            return None
        held = replace(claim.job, held_by=self._worker, held_s=self._within_s)
        ending = self._republished(claim, held)
        if ending is None:
            self.end(claim.job.id)
        return ending

    def settle(self) -> None:
        """To be called when everything is reported."""
        if self.handing_over and self.handovers is not None and self.handovers.any():
            assert self._within_s is not None
            left = self.handovers.job_ids()
            self._runtime.hand_over(self._worker, self._within_s)
            log.info(
                "%d jobs go on, for the next worker called %s within %g s: %s",
                len(left), self._worker, self._within_s, ", ".join(left),
            )  # fmt: skip

    def _republished(self, claim: Claim, job: Job, delay_s: float = 0.0) -> Ending | None:
        delivery = claim.delivery
        try:
            body = self._seal.seal(encode(job), on_queue(delivery.queue))
        except KeysRefused as error:
            log.warning("%s cannot be held for its worker: %s", job.id, error)
            return None
        message = Message(
            queue=delivery.queue,
            body=body,
            size=delivery.size,
            # before all else, for it takes cores already
            priority=MAX_PRIORITY,
            delay_s=delay_s,
            attempt=delivery.attempt,
        )
        return Ending(delivery, instead=message)
