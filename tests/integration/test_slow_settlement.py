"""A broker that gives jobs, and takes long over their results."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from queue_runner.brokers.base import Broker
from queue_runner.client.submit import job_message
from queue_runner.workers import daemon, slots
from tests.integration.lab import Lab
from tests.integration.system import eventually

_JOBS, _MOST_ENDING, _AHEAD = 300, 20, 20
_STILL_S = 1.0


def test_jobs_do_not_end_by_the_thousand_while_it_does(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes = threading.Event()
    settle = type(lab.broker).settle

    def slowly(broker: Broker, *arguments: object, **named: object) -> object:
        assert takes.wait(60)
        return settle(broker, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(type(lab.broker), "settle", slowly)
    monkeypatch.setattr(daemon, "_MOST_ENDING", _MOST_ENDING)
    monkeypatch.setattr(slots, "_MAX_AHEAD", _AHEAD)
    jobs = [lab.job(number) for number in range(_JOBS)]
    lab.broker.publish([job_message(job, seal=lab.seal) for job in jobs])
    lab.start_worker(lab.seal)
    eventually(lambda: _run(lab) >= _MOST_ENDING)
    # that nothing more begins has no moment at which it is known
    while (before := _run(lab)) < _JOBS:
        time.sleep(_STILL_S)
        if _run(lab) == before:
            break
    # what was leased when there were so many is run yet
    assert before <= 2 * (_MOST_ENDING + _AHEAD)
    takes.set()
    lab.start_collector()
    results = [eventually(partial(lab.result, job.id)) for job in jobs]
    assert {(result.attempt, result.state.value) for result in results} == {(1, "succeeded")}
    assert _run(lab) == _JOBS


def _run(lab: Lab) -> int:
    return len(lab.ledger.read_text().splitlines())
