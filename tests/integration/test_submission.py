"""A submission that breaks off, and jobs that a broker lost."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import pytest

from queue_runner import Study
from queue_runner.brokers import Broker, Message, connect
from queue_runner.client.submit import BATCH, submit_jobs
from queue_runner.collector.database import Database
from queue_runner.errors import BrokerUnavailable, FixThis
from queue_runner.model import (
    INBOX_QUEUE,
    JobsSubmitted,
    MissingJob,
    Result,
    State,
    StudyRecord,
)
from queue_runner.wire import decode_batch
from tests.integration.bench import JOBS, Bench, study_of
from tests.integration.system import eventually


class StoresNotesOnly:
    """What the contract allows: some of what it is given is stored, and then it fails."""

    def __init__(self, broker: Broker, fails_at: int) -> None:
        self._broker, self._left = broker, fails_at

    def publish(self, messages: Sequence[Message], timeout_s: float = 30.0) -> None:
        self._left -= 1
        if self._left:
            self._broker.publish(messages, timeout_s)
            return
        self._broker.publish([each for each in messages if each.queue == INBOX_QUEUE])
        raise BrokerUnavailable("cut off")


def test_no_note_is_ahead_of_its_jobs(zeromq_url: str) -> None:
    study = study_of(2 * BATCH)
    record = study.record(None, 0.0)
    with connect(zeromq_url) as broker:
        halting: Broker = StoresNotesOnly(broker, fails_at=2)  # type: ignore[assignment]
        with pytest.raises(BrokerUnavailable):
            submit_jobs(halting, record, study.jobs(None), start=0)
        notes = [
            item.upto
            for delivery in broker.lease([INBOX_QUEUE], 100, 1.0)
            for item, _ in decode_batch(delivery.body, (JobsSubmitted, StudyRecord))
            if isinstance(item, JobsSubmitted)
        ]
        assert max(notes) <= broker.depth(JOBS).ready == BATCH


class Kept:
    """A broker that only keeps what it is given, call by call."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def publish(self, messages: Sequence[Message], timeout_s: float = 30.0) -> None:
        self.calls.append([_what(message) for message in messages])


def _what(message: Message) -> str:
    if message.queue != INBOX_QUEUE:
        return "job"
    items = [item for item, _ in decode_batch(message.body, (JobsSubmitted, StudyRecord))]
    return ", ".join(f"up to {i.upto}" if isinstance(i, JobsSubmitted) else "study" for i in items)


@pytest.mark.parametrize(
    ("jobs", "start", "calls"),
    [
        (2, 0, [["job", "job"], ["study, up to 2"]]),
        (3, 1, [["job", "job"], ["study, up to 3"]]),
        (
            BATCH + 1,
            0,
            [["study", *["job"] * BATCH], [f"up to {BATCH}", "job"], [f"up to {BATCH + 1}"]],
        ),
    ],
)
def test_the_study_comes_after_its_jobs_where_they_are_one_batch(
    jobs: int, start: int, calls: list[list[str]]
) -> None:
    study, kept = study_of(jobs), Kept()
    broker: Broker = kept  # type: ignore[assignment]
    submit_jobs(broker, study.record(None, 0.0), study.jobs(None, start), start=start)
    assert kept.calls == calls


def test_a_study_of_many_lists_travels_apart_from_its_note() -> None:
    kept = Kept()
    broker: Broker = kept  # type: ignore[assignment]
    study = Study(
        name="many",
        kind="command",
        points={"columns": ["n"], "rows": [[0]] * BATCH},
        command={"run": ["true", "{n}"]},
    )
    submit_jobs(broker, study.record(None, 0.0), study.jobs(None), start=0)
    assert kept.calls[1] == ["study", f"up to {BATCH}"]


def test_lost_jobs_are_sent_again_when_nothing_waits_any_more(bench: Bench) -> None:
    handle = bench.submit(12)
    bench.lose(3)
    bench.work(2, State.FAILED, final=False)  # and their next attempts are lost
    bench.work(4)
    # RabbitMQ counts what it has sent to a consumer that closed just then a moment later
    eventually(lambda: bench.broker.depth(JOBS).ready == 3)
    with pytest.raises(FixThis, match="3 messages are with the broker"):
        handle.retry_missing()
    bench.work(3)
    bench.client.await_inbox()
    eventually(lambda: handle.status().succeeded == 7)
    assert bench.client.submit(study_of(12)).id == handle.id
    assert bench.broker.depth(JOBS).ready == 0, "submitting again sends what was not sent"
    assert handle.retry_missing() == 5
    bench.work(5)
    assert handle.wait(60.0).succeeded == 12
    found = bench.attempts(handle.id)
    assert [(index, state) for index, _, state in found] == [
        (index, State.SUCCEEDED) for index in range(12)
    ]
    # RabbitMQ counts what it had sent to a consumer that closed just then: a number is an upper bound
    least = [1, 1, 1, 2, 2, *[1] * 7]
    exact = bench.broker.capabilities.counts_leased
    for (_, attempt, _), low in zip(found, least, strict=True):
        assert attempt == low or (attempt > low and not exact)
    assert handle.retry_missing() == 0


def test_what_is_not_lost_may_be_sent_again_and_is_recorded_once(bench: Bench) -> None:
    handle = bench.submit(4)
    bench.lose(1)
    assert handle.retry_missing(anyway=True) == 4
    bench.work(7)
    assert handle.wait(60.0).succeeded == 4
    assert len(bench.attempts(handle.id)) == 4


def test_the_missing_are_listed_in_pages(database_url: str) -> None:
    total = 25_000
    record = study_of(1).record(None, 0.0)
    results = [
        Result(f"{record.id}.{n:07}", record.id, n, 1, State.SUCCEEDED, True, {})
        for n in range(total)
        if n % 5000
    ]
    with closing(Database(database_url)) as database:
        database.apply([replace(record, total=total), JobsSubmitted(record.id, total - 1)])
        database.apply(results)
        found = database.missing(record.id, limit=3)
        assert [each.index for each in found] == [0, 5000, 10_000]
        assert database.missing(record.id, after=10_000) == [
            MissingJob(15_000, 0),
            MissingJob(20_000, 0),
        ]
        assert database.missing(record.id, after=20_000) == []
