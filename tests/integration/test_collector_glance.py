"""A glance at a study says what the database would, and waits for nobody."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from queue_runner.collector import glance as module
from queue_runner.collector.database import Database
from queue_runner.collector.glance import Seen
from queue_runner.errors import NotFound
from queue_runner.model import CancelRequest, InboxItem, Result, RetryRequest, State, StudyRecord


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "c.sqlite"


@pytest.fixture
def database(file: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{file}")
    yield opened
    opened.close()


def study(number: int, total: int = 3, name: str = "s") -> StudyRecord:
    return StudyRecord(f"{name}-{number}", name, "command", total, (), {}, None, "q", float(number))


def result(number: int, index: int, state: State) -> Result:
    final = Result(f"s-{number}.{index:07}", f"s-{number}", index, 1, state, True, {})
    return replace(final, worker="w")


_numbers, _indexes = st.integers(0, 2), st.integers(0, 2)
_items = (
    st.builds(study, _numbers)
    | st.builds(result, _numbers, _indexes, st.sampled_from([State.SUCCEEDED, State.FAILED]))
    | st.builds(lambda number: CancelRequest(f"s-{number}"), _numbers)
    | st.builds(lambda number: RetryRequest(f"s-{number}"), _numbers)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=st.lists(_items, max_size=12), cursor=st.integers(0, 3))
def test_it_is_what_the_database_says(
    tmp_path_factory: pytest.TempPathFactory, items: list[InboxItem], cursor: int
) -> None:
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('glance')}/c.sqlite")
    for item in items:
        database.apply([item])
    for asked in ("s", "s-0", "s-1", "s-2", "other"):
        try:
            seen = database.glance(asked)
        except NotFound:
            with pytest.raises(NotFound):
                database.status(asked)
            continue
        assert seen is not None
        assert seen.done == database.status(asked).done
        # what was taken back to be run again had a number, too
        arrived = database.arrived(asked, cursor=cursor)
        assert seen.arrivals > cursor or (arrived.bodies, arrived.done) == ([], seen.done)
    database.close()


def test_where_it_would_wait_it_says_nothing(database: Database, file: Path) -> None:
    database.apply([study(1)])
    assert database.glance("s") == Seen(0, done=False)
    database.close()
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    assert module.Glance(str(file)).study("s") is None
    other.close()


def test_what_is_no_text_is_not_said(database: Database) -> None:
    assert database.glance("\ud800") is None


def test_no_question_for_a_study_goes_through_all_of_them(database: Database, file: Path) -> None:
    database.apply([study(1)])
    with sqlite3.connect(file) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {module._STUDY}", {"study": "s"}).fetchall()
    steps = [str(step) for *_, step in plan]
    assert any("study_by_name" in step for step in steps), steps
    assert not any(step.startswith("SCAN study") for step in steps), steps


def test_a_database_of_before_gets_its_index(database: Database, file: Path) -> None:
    database.apply([study(1)])
    database.close()
    with sqlite3.connect(file) as connection:
        connection.execute("DROP INDEX study_by_name")
    Database(f"sqlite:///{file}").close()
    with sqlite3.connect(file) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE name = 'study_by_name'")
        assert found.fetchall() == [("study_by_name",)]
