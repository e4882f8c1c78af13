"""Jobs that name the only worker that is to run them: all others leave them."""

from __future__ import annotations

from functools import partial

import pytest

from queue_runner.brokers.base import Broker, Retry
from queue_runner.client.submit import job_message
from tests.integration.lab import Lab
from tests.integration.system import eventually

_JOBS = 30


def test_those_that_are_not_for_it_are_left_for_times_that_differ(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[Retry] = []
    settle = type(lab.broker).settle

    def noted(broker: Broker, *arguments: object, **named: object) -> object:
        retry = named.get("retry", ())
        assert isinstance(retry, list | tuple)
        left.extend(retry)
        return settle(broker, *arguments, **named)  # type: ignore[arg-type]

    jobs = [lab.job(n, worker="other") for n in range(_JOBS)]
    monkeypatch.setattr(type(lab.broker), "settle", noted)
    lab.broker.publish([job_message(job, seal=lab.seal) for job in jobs])
    lab.start_worker(lab.seal)
    eventually(lambda: len(left) >= _JOBS or None)
    # with always the same, two workers can pass a job to and fro without end (3 ** -29 by chance)
    assert len({retry.delay_s for retry in left}) > 1
    assert not any(retry.counted for retry in left)
    lab.start_collector()
    lab.start_worker(lab.seal, "other")
    results = [eventually(partial(lab.result, job.id)) for job in jobs]
    assert {result.worker for result in results} == {"other"}
