"""What becomes of a worker's claims: their results reported, given back, buried, or forgotten."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from queue_runner.brokers.base import Broker, Dead, Retry
from queue_runner.errors import JobError
from queue_runner.model import Failure, Result, State
from queue_runner.signing import Seal
from queue_runner.store import Store
from queue_runner.workers.checkpoints import Forgetter
from queue_runner.workers.claims import Claim, Claims
from queue_runner.workers.heir import Heir
from queue_runner.workers.record import without_run
from queue_runner.workers.settler import Ending, Settler

log = logging.getLogger("queue_runner.worker")


class Endings:
    """Safe to use from several threads. `settler` and `forgetter` want a thread each, and carry it out."""

    def __init__(
        self, worker: str, broker: Broker, claims: Claims, heir: Heir, store: Store, seal: Seal
    ) -> None:
        self._worker, self._claims, self._heir = worker, claims, heir
        self.settler = Settler(broker, self._settled, claims.count, seal)
        self.forgetter = Forgetter(store)

    def finished(self, claim: Claim, result: Result) -> None:
        """Report an attempt, and give the job back where its retry wants that; nothing of a lost claim."""
        job, delivery, failure = claim.job, claim.delivery, result.failure
        if claim.lost:
            log.warning("%s finished after its lease was lost; not reported", job.id)
            self._claims.remove([delivery])
        elif failure is not None and job.retry.wants(delivery.attempt, failure.reason):
            retry = Retry(delivery, delay_s=job.retry.delay_s(delivery.attempt))
            self.end(Ending(delivery, replace(result, final=False), retry))
        else:
            self.end(Ending(delivery, result))

    def stopped(self, claim: Claim) -> None:
        """One that did not get to its end, or to its turn."""
        if self._claims.is_cancelled(claim.job) and not claim.lost:
            self.report(claim, State.CANCELLED)
        elif not claim.lost and (held := self._heir.left_to_successor(claim)) is not None:
            self.end(held)
        else:
            self.drop_or_give_back(claim, delay_s=0.0)

    def drop_or_give_back(self, claim: Claim, delay_s: float) -> None:
        if claim.lost:
            self._claims.remove([claim.delivery])
        else:
            self.give_back([claim], delay_s)

    def end(self, ending: Ending) -> None:
        self._claims.end(ending.delivery)
        self.settler.add(ending)

    def _settled(self, endings: Sequence[Ending]) -> None:
        final = {each.result.job_id for each in endings if each.result and each.result.final}
        for claim in self._claims.remove([ending.delivery for ending in endings]):
            if claim.job.resume is not None and claim.job.id in final:
                self.forgetter.add(claim.job.id)

    def report(self, claim: Claim, state: State, failure: Failure | None = None) -> None:
        attempt = claim.delivery.attempt
        result = without_run(self._worker, claim.job, attempt, state, failure)
        self.end(Ending(claim.delivery, result))

    def bury(self, claim: Claim, error: JobError) -> None:
        """For a job that no worker like this one can run: the table says why, and its message is kept."""
        delivery, failure = claim.delivery, Failure(error.reason, str(error))
        result = without_run(self._worker, claim.job, delivery.attempt, State.FAILED, failure)
        self.end(Ending(delivery, result, dead=Dead(delivery, str(error))))

    def give_back(self, claims: list[Claim], delay_s: float) -> None:
        """To be offered again after `delay_s` seconds, to anyone; no attempt is counted."""
        for claim in claims:
            retry = Retry(claim.delivery, delay_s=delay_s, counted=False)
            self.end(Ending(claim.delivery, retry=retry))
