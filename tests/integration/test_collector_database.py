"""The collector's database, on real SQLite and real PostgreSQL."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from queue_runner.collector import schema
from queue_runner.collector.database import Arrived, Database
from queue_runner.collector.news import Told
from queue_runner.collector.schema import open_engine
from queue_runner.errors import CollectorUnavailable, FixThis, NotFound
from queue_runner.model import (
    Cancel,
    CancelRequest,
    Failure,
    Heartbeat,
    InboxItem,
    JobsSubmitted,
    Result,
    RetryRequest,
    RunningJob,
    State,
    StudyRecord,
)
from queue_runner.records import Arrivals

STUDY = "s-0123456789"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


def study(total: int = 10, study_id: str = STUDY) -> StudyRecord:
    return StudyRecord(study_id, "s", "command", total, ("x",), {"study": "s"}, None, "q", 1.0)


def result(
    index: int, attempt: int = 1, state: State = State.SUCCEEDED, *, final: bool = True
) -> Result:
    failure = Failure("exit-code", "no") if state is State.FAILED else None
    return Result(
        job_id=f"{STUDY}.{index:07}",
        study=STUDY,
        index=index,
        attempt=attempt,
        state=state,
        final=final,
        point={"x": index},
        metrics={"y": index * 0.5},
        failure=failure,
        worker="w",
    )


def test_a_study_fills_up(database: Database) -> None:
    database.apply([study(3), JobsSubmitted(STUDY, 3)])
    database.apply([result(2), result(0, state=State.FAILED)])
    status = database.status(STUDY)
    assert (status.total, status.submitted, status.succeeded, status.failed) == (3, 3, 1, 1)
    assert not status.done
    database.apply([result(1)])
    assert database.status("s").done
    assert [r.index for r in database.results(STUDY)] == [0, 1, 2]
    assert [r.index for r in database.results(STUDY, after=0, limit=1)] == [1]
    assert [r.index for r in database.results(STUDY, states=[State.FAILED])] == [0]
    assert database.result(f"{STUDY}.0000001") == result(1)
    assert database.counts() == {"succeeded": 2, "failed": 1, "cancelled": 0}


def test_arrivals_come_in_the_order_of_their_commits(database: Database) -> None:
    database.apply([study()])
    database.apply([result(5), result(3)])
    first = database.arrivals(STUDY)
    database.apply([result(1)])
    more = database.arrivals(STUDY, cursor=first.cursor)
    assert ([r.index for r in first.results], [r.index for r in more.results]) == ([5, 3], [1])
    assert database.arrivals(STUDY, cursor=more.cursor) == Arrivals([], more.cursor, done=False)


def test_news_are_what_the_database_has_where_they_have_anything(database: Database) -> None:
    failed = result(1, state=State.FAILED)
    batches: list[tuple[list[InboxItem], bool]] = [
        ([result(0)], False),  # its study is not known yet
        ([study(4), failed, result(2)], True),
        ([JobsSubmitted(STUDY, 4), result(2)], False),
        ([RetryRequest(STUDY), result(1, attempt=2)], False),
        ([result(1, attempt=3, final=False), study(4), result(1, attempt=4)], False),
        ([result(3)], True),
    ]
    for items, has_news in batches:
        heard: list[Told | None] = []
        with database.news.listening(heard.append):
            database.apply(items)
        (told,) = heard
        assert told is not None
        added = told[STUDY]
        assert (added is not None) == has_news
        if added is not None:
            arrived = database.arrived(STUDY, cursor=added.after)
            cursor = added.after + len(added.bodies)
            assert arrived == Arrived(added.bodies, cursor, added.done)
    assert added is not None
    assert added.done


def test_however_often_it_is_delivered_there_is_one_final_result(database: Database) -> None:
    items = [study(), *(result(index) for index in range(10))]
    for seed in range(5):
        random.Random(seed).shuffle(items)
        database.apply(items)
    status = database.status(STUDY)
    assert (status.succeeded, status.finished) == (10, 10)
    assert len(database.results(STUDY)) == 10
    assert len(database.attempts(f"{STUDY}.0000004")) == 1


def test_attempts_are_kept_as_history(database: Database) -> None:
    early = result(1, 1, State.FAILED, final=False)
    database.apply([study(), early, result(1, 2, State.FAILED)])
    database.apply([result(1, 3)])
    assert database.status(STUDY).failed == 0
    assert database.status(STUDY).succeeded == 1
    kept = database.attempts(f"{STUDY}.0000001")
    assert [(r.attempt, r.state) for r in kept] == [
        (1, State.FAILED),
        (2, State.FAILED),
        (3, State.SUCCEEDED),
    ]


def test_results_may_come_before_their_study(database: Database) -> None:
    database.apply([result(0), JobsSubmitted(STUDY, 1)])
    assert database.studies() == []
    with pytest.raises(NotFound):
        database.status(STUDY)
    database.apply([study(1)])
    assert database.status(STUDY).done
    assert database.status(STUDY).submitted == 1


def test_cancel_and_retry(database: Database) -> None:
    database.apply([study(5), result(0), result(1, state=State.FAILED)])
    assert database.apply([CancelRequest(STUDY)]) == [Cancel(STUDY)]
    status = database.status(STUDY)
    assert (status.succeeded, status.failed, status.cancelled) == (1, 1, 3)
    assert database.active_cancels() == [Cancel(STUDY)]
    # what was on its way when it was cancelled is history
    database.apply([result(2)])
    assert database.status(STUDY).succeeded == 1

    jobs = (f"{STUDY}.0000001", f"{STUDY}.0000002")
    assert database.apply([RetryRequest(STUDY, jobs)]) == [Cancel(STUDY, (), lifted=True)]
    status = database.status(STUDY)
    assert (status.succeeded, status.failed, status.cancelled) == (1, 0, 2)
    assert database.active_cancels() == []
    database.apply([result(1, 2), result(2, 2)])
    assert database.status(STUDY).succeeded == 3


def test_some_jobs_are_cancelled(database: Database) -> None:
    database.apply([study(5)])
    job = f"{STUDY}.0000003"
    assert database.apply([CancelRequest(STUDY, (job, "other.0000001"))])
    assert database.status(STUDY).cancelled == 1
    assert database.result(job).state is State.CANCELLED


def test_a_large_study_is_cancelled(database: Database) -> None:
    database.apply([study(25_000), *(result(index) for index in range(0, 25_000, 1000))])
    database.apply([CancelRequest(STUDY)])
    status = database.status(STUDY)
    assert (status.succeeded, status.cancelled, status.done) == (25, 24_975, True)


def test_workers_and_what_runs(database: Database) -> None:
    running = (RunningJob(f"{STUDY}.0000000", STUDY, 1, 1.0),)
    beat = Heartbeat("w1", "host", 1.0, "working", ("q",), 4, 3, running, "0.1")
    database.apply([study()])
    assert database.heard([beat]) == ["w1"]
    assert database.heard([replace(beat, cores_free=2)]) == []
    (worker,) = database.workers()
    assert (worker.worker, worker.cores_free, worker.running) == ("w1", 2, running)
    assert database.status(STUDY).running == 1
    # a heartbeat is older than the results that came since
    database.apply([result(index) for index in range(10)])
    assert database.status(STUDY).running == 0


def test_two_collectors_on_one_database(database_url: str, database: Database) -> None:
    database.apply([study(2000)])
    other = Database(database_url)

    def apply(into: Database, indexes: range) -> None:
        for first in indexes:
            into.apply([result(index) for index in range(first, first + 50)])

    # each gets half of them, and a quarter is given to both
    with ThreadPoolExecutor(2) as pool:
        halves = [
            pool.submit(apply, database, range(0, 1250, 50)),
            pool.submit(apply, other, range(750, 2000, 50)),
        ]
        for half in halves:
            half.result()
    other.close()
    assert database.status(STUDY).succeeded == 2000
    arrived = database.arrivals(STUDY, limit=5000)
    assert len({r.index for r in arrived.results}) == len(arrived.results) == 2000
    assert arrived.cursor == 2000


def test_a_newer_schema_is_refused(database_url: str, database: Database) -> None:
    engine = open_engine(database_url)
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("UPDATE schema SET version = 99"))
    engine.dispose()
    with pytest.raises(FixThis, match="schema version 99"):
        Database(database_url)


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("nonsense", FixThis, "is no database URL"),
        ("oracle9://x", FixThis, "is no database URL"),
        ("sqlite:////nosuch/folder/x.sqlite", CollectorUnavailable, "unable to open"),
        ("postgresql://u:secret@127.0.0.1:9/x", CollectorUnavailable, "127.0.0.1"),
    ],
)
def test_bad_urls(url: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        Database(url)
    assert "secret" not in str(raised.value)


def test_the_engine_is_what_the_url_says(database_url: str, database: Database) -> None:
    name = "sqlite" if "sqlite" in database_url else "postgresql"
    assert create_engine(database_url.replace("postgresql:", "postgresql+psycopg:")).name == name


def test_what_one_batch_did_wrong_is_not_held_against_the_next(tmp_path: Path) -> None:
    """The connection over which it writes is let go: what SQLite had of the batch goes with it."""
    with closing(Database(f"sqlite:///{tmp_path}/c.sqlite")) as database:
        database.apply([study(10)])
        with pytest.raises(AttributeError):
            database.apply([result(0), "no item"])  # type: ignore[list-item]
        assert database.status(STUDY).succeeded == 0
        database.apply([result(1)])
        assert [each.index for each in database.results(STUDY)] == [1]


def test_a_database_that_another_holds_is_said_to_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_BUSY_S", 0.05)
    with closing(Database(f"sqlite:///{tmp_path}/c.sqlite")) as database:
        database.apply([study(10)])
        with closing(sqlite3.connect(tmp_path / "c.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(CollectorUnavailable, match=r"c\.sqlite: database is locked"):
                database.apply([result(0)])
            other.execute("ROLLBACK")
        database.apply([result(0)])
        assert database.status(STUDY).succeeded == 1


def test_a_table_that_is_gone_is_told_as_what_the_database_says(
    database_url: str, database: Database
) -> None:
    database.apply([study(10)])
    engine = open_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE result RENAME TO elsewhere"))
    with pytest.raises(CollectorUnavailable, match="result"):
        database.apply([result(0)])
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO result"))
    engine.dispose()
    database.apply([result(0)])
    assert database.status(STUDY).succeeded == 1
