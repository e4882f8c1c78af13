"""What has to be true of a sweep's records, whatever happened while it ran.

*Recorded* is what the collector's database holds: a job's one final result, which status, tables and
exports show, and the history of its other attempts, which `queue-runner job` shows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from queue_runner.collector.database import Database
from queue_runner.model import Result, State
from tests.faults.sweep import Sweep


@dataclass(frozen=True)
class Expected:
    """lost: how many faults may have cost one job its claim, and so a number of its attempts.

    all_counted: every execution that was broken off is to have cost an attempt; not where jobs were
    given back, or where two executions of a job may have been under way.
    ledger: whether the jobs could write to the sweep's ledger.
    """

    lost: int = 0
    all_counted: bool = False
    ledger: bool = True


def check(database: Database, sweep: Sweep, expected: Expected, *, exact: bool) -> None:
    """exact: whether the broker's attempt numbers are, or only an upper bound (RabbitMQ)."""
    status = database.status(sweep.study)
    finals = all_results(database, sweep.study)
    history = {result.job_id: database.attempts(result.job_id) for result in finals}
    arrived = database.arrivals(sweep.study, limit=2 * sweep.jobs).results
    counted = (status.total, status.succeeded, status.failed, status.cancelled)
    failed = [result for result in finals if result.state is not State.SUCCEEDED]
    assert not failed, f"{len(failed)} jobs did not succeed, for one: {failed[0]}"
    assert counted == (sweep.jobs, sweep.jobs, 0, 0)
    assert [result.index for result in finals] == list(range(sweep.jobs))
    # who follows the study was told of each job once
    assert sorted(result.index for result in arrived) == list(range(sweep.jobs))
    for result in finals:
        assert result.metrics["slept"] is not None
    _check_attempts(history, sweep, expected, exact=exact)
    if expected.ledger:
        _check_successes(finals, history, sweep)


def all_results(database: Database, study: str) -> list[Result]:
    found: list[Result] = []
    while some := database.results(study, after=found[-1].index if found else -1):
        found += some
    return found


def _check_attempts(
    history: dict[str, list[Result]], sweep: Sweep, expected: Expected, *, exact: bool
) -> None:
    begun = sweep.executions("begin")
    for job, attempts in history.items():
        last = max(result.attempt for result in attempts)
        # where no claim was lost, there is nothing that an upper bound could be above
        if exact or not expected.lost:
            assert last <= 1 + expected.lost, f"{job}: lost {expected.lost} times at most: {last}"
        if expected.all_counted and expected.ledger:
            assert last >= begun[job], f"{job}: began {begun[job]} times, last attempt is {last}"


def _check_successes(finals: list[Result], history: dict[str, list[Result]], sweep: Sweep) -> None:
    """Each recorded success is of an execution of its own that truly came to its end."""
    ended = sweep.executions("end")
    for final in finals:
        attempts = history[final.job_id]
        told = [(r.attempt, r.worker) for r in attempts if r.state is State.SUCCEEDED]
        repeated = [each for each, count in Counter(told).items() if count > 1]
        assert not repeated, f"{final.job_id}: one attempt is recorded twice: {attempts}"
        assert 1 <= len(told) <= ended[final.job_id], f"{final.job_id}: {told}, ended {ended}"
