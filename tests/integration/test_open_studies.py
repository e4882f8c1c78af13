"""Studies that points are added to: by one client, by several, by ones that fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from queue_runner import Study
from queue_runner.brokers import Broker, Message
from queue_runner.client import adding
from queue_runner.client.again import study_again
from queue_runner.client.client import Client, StudyHandle
from queue_runner.client.runs import RunSettings, local_run, run, run_open
from queue_runner.collector.database import Database
from queue_runner.errors import (
    BrokerUnavailable,
    CollectorUnavailable,
    FixThis,
    NotFound,
    QueueRunnerError,
    StudyError,
)
from queue_runner.model import (
    INBOX_QUEUE,
    AddedPoint,
    Allotment,
    CancelRequest,
    Job,
    PointsAdded,
    Result,
    State,
    StudyRecord,
)
from queue_runner.wire import decode
from tests.integration.bench import JOBS, Bench
from tests.integration.system import System, eventually

STUDY = "s-0123456789"


def growing(**fields: Any) -> Study:
    return Study(
        name="grows", kind="command", open=["n"], command={"run": ["true", "{n}"]}, **fields
    )


# -- the database ----------------------------------------------------------------------------------


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


def record(open: bool = True) -> StudyRecord:
    return StudyRecord(STUDY, "s", "command", 0, ("x",), {"study": "s"}, None, "q", 1.0, open)


def added(first: int, count: int = 1) -> PointsAdded:
    return PointsAdded(STUDY, first, tuple({"x": float(n)} for n in range(first, first + count)))


def result(index: int, state: State = State.SUCCEEDED) -> Result:
    return Result(f"{STUDY}.{index:07}", STUDY, index, 1, state, True, {"x": float(index)})


def counts(database: Database) -> tuple[int, int, int]:
    status = database.status(STUDY)
    assert status.open
    return status.total, status.submitted, status.finished


def test_numbers_are_given_once(database: Database) -> None:
    database.apply([record()])
    assert database.allot(STUDY, 5) == Allotment(0, 0)
    assert database.allot("s", 2) == Allotment(5, 0)
    assert counts(database) == (0, 0, 0)
    database.apply([added(5, 2), result(5)])
    assert database.allot(STUDY, 1) == Allotment(7, 1)


def test_a_database_that_was_lost_gives_no_number_twice(database: Database) -> None:
    database.apply([record(), added(40, 2)])
    assert database.allot(STUDY, 1).first == 42
    database.apply([result(60)])
    assert database.allot(STUDY, 1).first == 61


def test_a_number_that_lies_leaves_the_others(database: Database) -> None:
    database.apply([record(), result(2**63 - 1), PointsAdded(STUDY, 2**63 - 2, ({"x": 1},))])
    assert counts(database) == (2, 0, 1)
    assert database.allot(STUDY, 1).first == 0
    assert len(database.missing(STUDY)) == 1


@pytest.mark.parametrize("late", [False, True])
def test_points_for_a_study_that_is_not_open_say_nothing(database: Database, late: bool) -> None:
    closed = StudyRecord(STUDY, "s", "command", 3, ("x",), {}, None, "q", 1.0)
    for item in (closed, added(7, 2)) if late else (added(7, 2), closed):
        database.apply([item])
    database.apply([result(1)])
    status = database.status(STUDY)
    assert (status.open, status.total, status.finished) == (False, 3, 1)
    database.apply([CancelRequest(STUDY)])
    assert [each.index for each in database.results(STUDY)] == [0, 1, 2]


def test_only_open_studies_give_numbers(database: Database) -> None:
    with pytest.raises(NotFound):
        database.allot(STUDY, 1)
    database.apply([record(open=False)])
    with pytest.raises(FixThis, match="takes no further points"):
        database.allot(STUDY, 1)


@pytest.mark.parametrize(
    "items",
    [
        [record(), added(3, 2), result(3), result(4)],
        [record(), result(4), result(3), added(3, 2)],
        [record(), result(3), added(3, 2), added(3, 2), result(4), result(4)],
        [added(3, 2), result(4), record(), result(3)],
        [result(4), record(), added(3, 2), result(3)],
    ],
)
def test_points_are_counted_once_in_whatever_order_things_come(
    database: Database, items: list[Any]
) -> None:
    for item in items:
        database.apply([item])
    assert counts(database) == (2, 2, 2)
    assert database.points(STUDY) == [AddedPoint(3, {"x": 3.0}), AddedPoint(4, {"x": 4.0})]
    assert database.points(STUDY, after=3, limit=1) == [AddedPoint(4, {"x": 4.0})]


def test_a_cancelled_study_takes_points_as_cancelled(database: Database) -> None:
    database.apply([record(), added(0, 2), result(1), CancelRequest(STUDY)])
    database.apply([added(5, 2)])
    assert counts(database) == (4, 4, 4)
    cancelled = [each.index for each in database.results(STUDY, states=[State.CANCELLED])]
    assert cancelled == [0, 5, 6]
    database.apply([CancelRequest(STUDY, (f"{STUDY}.0000003", f"{STUDY}.0000009"))])
    assert counts(database) == (4, 4, 4)


def test_they_are_counted_once_in_one_batch_too(database: Database) -> None:
    database.apply([result(1), added(0, 3), record(), result(0), added(0, 3), result(1)])
    assert counts(database) == (3, 3, 2)
    assert [each.index for each in database.missing(STUDY)] == [2]


def test_who_waits_for_more_is_not_told_that_all_have_come(database: Database) -> None:
    database.apply([record(), added(0), result(0)])
    first = database.arrivals(STUDY)
    assert ([each.index for each in first.results], first.done) == ([0], True)
    waiting = threading.Event()
    came: list[int] = []

    def wait() -> None:
        waiting.set()
        later = database.arrivals(STUDY, cursor=first.cursor, wait_s=30.0, more=True)
        came.extend(each.index for each in later.results)

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait()
    database.apply([added(1), result(1)])
    thread.join()
    assert came == [1]


def test_what_is_missing_has_gaps_and_pages(database: Database) -> None:
    database.apply([record(), added(2, 3), added(10, 3), result(3), result(11)])
    assert [each.index for each in database.missing(STUDY)] == [2, 4, 10, 12]
    assert [each.index for each in database.missing(STUDY, after=4, limit=1)] == [10]


def test_a_database_of_before_open_studies_is_taken_over(database_url: str) -> None:
    with closing(Database(database_url)) as database:
        database.apply([record(open=False)])
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE point"))
        connection.execute(text("ALTER TABLE study DROP COLUMN open"))
    engine.dispose()
    with closing(Database(database_url)) as database:
        assert not database.status(STUDY).open
        with pytest.raises(FixThis):
            database.allot(STUDY, 1)
        other = StudyRecord("o-0123456789", "o", "command", 0, (), {}, None, "q", 1.0, True)
        database.apply([other, PointsAdded(other.id, 0, ({},))])
        assert database.status("o").total == 1


# -- clients ---------------------------------------------------------------------------------------


def start(bench: Bench) -> StudyHandle:
    handle = bench.client.submit(growing())
    # RabbitMQ does not tell of what a collector holds, and has not taken in yet
    eventually(lambda: handle.status_or_none() is not None)
    return handle


def told(results: Iterator[Result]) -> list[int]:
    numbers = []
    for each in results:
        number = each.point["n"]
        assert isinstance(number, int)
        numbers.append(number)
    return numbers


class Works:
    """Runs `count` jobs while the client waits for them."""

    def __init__(self, bench: Bench, count: int) -> None:
        self._thread = threading.Thread(target=bench.work, args=(count,))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._thread.join()


def test_what_comes_next_depends_on_what_came(bench: Bench) -> None:
    handle = start(bench)
    with Works(bench, 5):
        points = [0]
        for _ in range(5):
            came = handle.evaluate({"n": points[-1]}, 60.0)
            assert came.point == {"n": points[-1]}
            points.append(points[-1] * 2 + 1)
    status = handle.status()
    assert (status.total, status.submitted, status.succeeded, status.open) == (5, 5, 5, True)
    assert [each.index for each in handle.results()] == [0, 1, 2, 3, 4]
    assert told(handle.results()) == points[:5] == [0, 1, 3, 7, 15]


def test_results_come_one_by_one_or_all(bench: Bench) -> None:
    handle = start(bench)
    assert list(handle.as_completed(1.0)) == []
    jobs = handle.add(*({"n": n} for n in range(40)))
    assert len(set(jobs)) == 40
    with Works(bench, 41):
        last = handle.evaluate({"n": 40}, 60.0)
        assert last.point == {"n": 40}
        assert sorted(told(handle.next_result(60.0) for _ in range(40))) == list(range(40))
    with pytest.raises(FixThis, match="no result is to come"):
        handle.next_result()
    handle.add({"n": 41})
    with Works(bench, 1):
        assert sorted(told(handle.as_completed(60.0))) == list(range(42))
    assert handle.wait(60.0).succeeded == 42


def test_without_a_worker_it_is_said_that_none_came(bench: Bench) -> None:
    handle = start(bench)
    with pytest.raises(TimeoutError, match=r"no result for 0\.2 s; 1 are to come"):
        handle.evaluate({"n": 1}, 0.2)
    bench.work(1)
    assert handle.next_result(60.0).point == {"n": 1}


class Notes:
    """A broker that tells how many notes it was given."""

    def __init__(self, broker: Broker) -> None:
        self._broker, self.count = broker, 0

    def publish(self, messages: Sequence[Message], timeout_s: float = 30.0) -> None:
        self.count += sum(each.queue == INBOX_QUEUE for each in messages)
        self._broker.publish(messages, timeout_s)


def test_a_result_that_comes_at_once_is_its_own_note(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adding, "_NOTED_S", 60.0)
    notes = Notes(bench.broker)
    handle = start(bench)
    adds = Client.over(bench.database, notes, "file:///nowhere").handle(handle.id)  # type: ignore[arg-type]
    with Works(bench, 2):
        assert [adds.evaluate({"n": n}, 60.0).index for n in (1, 2)] == [0, 1]
    assert notes.count == 0
    assert handle.status().total == 2
    assert [each.point for each in bench.database.points(handle.id)] == [{"n": 1}, {"n": 2}]


def test_what_is_waited_for_longer_is_noted_and_sent_again_when_it_was_lost(bench: Bench) -> None:
    handle = start(bench)
    with pytest.raises(TimeoutError):
        handle.evaluate({"n": 1}, 0.01)
    bench.client.await_inbox()
    eventually(lambda: handle.status().total == 1)
    bench.lose(1)
    assert bench.client.handle(handle.id).retry_missing() == 1
    bench.work(1)
    assert handle.next_result(60.0).point == {"n": 1}


def test_what_the_collector_cannot_be_asked_for_is_noted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = start(bench)

    def fail(*_: object, **__: object) -> None:
        raise CollectorUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(bench.database, "arrivals", fail)
        with pytest.raises(CollectorUnavailable):
            handle.evaluate({"n": 1})
    eventually(lambda: handle.status().total == 1)


def test_several_clients_add_to_one_study(bench: Bench) -> None:
    handles = [start(bench), bench.client.handle("grows"), start(bench)]
    assert len({handle.id for handle in handles}) == 1
    jobs = [job for handle in handles for job in handle.add({"n": 1}, {"n": 2})]
    assert len(set(jobs)) == 6
    bench.work(6)
    for handle in handles:
        assert sorted(told(handle.next_result(60.0) for _ in range(2))) == [1, 2]
        with pytest.raises(FixThis):
            handle.next_result()


def test_what_failed_or_was_lost_is_sent_again_with_its_point(bench: Bench) -> None:
    handle = start(bench)
    handle.add(*({"n": n} for n in range(6)))
    bench.lose(2)
    bench.work(1, State.FAILED)
    bench.work(3)
    bench.client.await_inbox()
    eventually(lambda: handle.status().finished == 4)
    eventually(lambda: bench.broker.depth(JOBS).ready == 0)
    assert handle.retry_missing() == 2
    assert bench.client.retry(handle.id) == 1
    bench.work(3)
    status = eventually(lambda: (now := handle.status()).succeeded == 6 and now)
    assert status.total == 6
    assert sorted(told(handle.results())) == list(range(6))


def test_what_is_added_to_a_cancelled_study_is_cancelled_and_may_be_retried(bench: Bench) -> None:
    handle = start(bench)
    handle.add({"n": 1})
    eventually(lambda: handle.status().total == 1)
    handle.cancel()
    eventually(lambda: handle.status().cancelled == 1)
    handle.add({"n": 2})
    status = eventually(lambda: (now := handle.status()).cancelled == 2 and now)
    assert status.done
    bench.lose(2)
    assert bench.client.retry(handle.id) == 2
    bench.work(2)
    eventually(lambda: handle.status().succeeded == 2)
    assert sorted(told(handle.results())) == [1, 2]


class StoresJobsOnly:
    """A broker that takes some of what it is given, and then fails."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def publish(self, messages: Sequence[Message], timeout_s: float = 30.0) -> None:
        self._broker.publish([each for each in messages if each.queue != INBOX_QUEUE])
        raise BrokerUnavailable("cut off")


def test_a_job_whose_note_was_lost_counts_with_its_result(bench: Bench) -> None:
    handle = start(bench)
    handle.add({"n": 1})
    halting: Broker = StoresJobsOnly(bench.broker)  # type: ignore[assignment]
    cut_off = Client.over(bench.database, halting, "file:///nowhere").handle(handle.id)
    with pytest.raises(BrokerUnavailable):
        cut_off.add({"n": 2})
    with pytest.raises(FixThis):
        cut_off.next_result()
    bench.work(2)
    eventually(lambda: handle.status().succeeded == 2)
    assert handle.status().total == 2
    assert [each.point for each in bench.database.points(handle.id)] == [{"n": 1}, {"n": 2}]
    assert len(handle.add({"n": 3})) == 1
    bench.client.await_inbox()
    eventually(lambda: handle.status().total == 3)


def test_what_is_submitted_again_with_another_queue_is_added_there(bench: Bench) -> None:
    start(bench).add({"n": 1})
    again = bench.client.submit(growing(queue="other", priority=2))
    again.add({"n": 2})
    held = [each for queue in (JOBS, "jobs.other") for each in bench.broker.lease([queue], 2, 10.0)]
    points = [dict(decode(each.body, Job).point) for each in held]
    assert (points, held[1].priority) == ([{"n": 1}, {"n": 2}], 2)


def test_a_wrong_point_sends_nothing(bench: Bench) -> None:
    handle = start(bench)
    with pytest.raises(StudyError, match="no parameter 'm' that is open"):
        handle.add({"n": 1}, {"m": 1})
    bench.client.await_inbox()
    assert bench.broker.depth(JOBS).ready == 0
    assert handle.status().total == 0


def test_a_study_that_is_not_open_takes_no_point(bench: Bench) -> None:
    with pytest.raises(StudyError, match="takes no further points"):
        bench.submit(2).add({"n": 7})


def test_it_is_made_again_with_the_points_that_it_has(bench: Bench) -> None:
    handle = start(bench)
    known = bench.client.records.study(handle.id)
    with pytest.raises(StudyError, match="no point was added"):
        study_again(bench.client.records, known)
    handle.add(*({"n": n} for n in (5, 3)))
    bench.client.await_inbox()
    eventually(lambda: handle.status().total == 2)
    assert list(study_again(bench.client.records, known).points()) == [{"n": 5}, {"n": 3}]


# -- whole systems ---------------------------------------------------------------------------------


def test_points_are_added_to_a_run_of_this_machine(tmp_path: Path) -> None:
    study = Study(
        name="squares",
        kind="command",
        open=["x"],
        command={"run": ["expr", "{x}", "*", "{x}"]},
        measure={"log": {"y": r"(\d+)"}},
    )
    for first in (1, 4):
        with run_open(study, tmp_path) as handle:
            found = [handle.evaluate({"x": x}, 60.0) for x in range(first, first + 3)]
        assert [each.metrics["y"] for each in found] == [x**2 for x in range(first, first + 3)]
        numbers = [each.index for each in found]
        assert numbers == sorted(set(numbers))
    with run_open(study, tmp_path) as handle:
        assert sorted(each.point["x"] for each in handle.results()) == [1, 2, 3, 4, 5, 6]
    (table,) = tmp_path.glob("squares-*/results.csv")
    assert len(table.read_text().splitlines()) == 7


def test_who_waits_is_told_that_the_worker_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adding, "WAIT_S", 0.2)
    with local_run(growing(), RunSettings(folder=tmp_path)) as local:
        local.drain()
        with pytest.raises(QueueRunnerError, match="the embedded worker stopped"):
            local.handle.evaluate({"n": 1})


def test_what_is_not_open_is_run_and_what_is_open_is_opened(tmp_path: Path) -> None:
    closed = growing().closed([{"n": 1}])
    with pytest.raises(StudyError, match="is not open: `run` runs it"), run_open(closed, tmp_path):
        pass
    with pytest.raises(StudyError, match="its points are added while it runs"):
        run(growing(), tmp_path)


@pytest.fixture
def system(tmp_path: Path, broker_url: str) -> Iterator[System]:
    system = System(tmp_path, broker_url)
    (tmp_path / "study.yaml").write_text(
        "study: squares\nkind: command\nopen: [x]\ncommand: {run: [expr, '{x}', '*', '{x}']}\n"
        "measure: {log: {y: '(\\d+)'}}\n"
    )
    with ExitStack() as stack:
        stack.callback(system.stop)
        yield system


def test_from_the_command_line(system: System) -> None:
    system.start_collector()
    system.start_worker()
    assert "open, for points of x" in system.ok("check", "study.yaml")
    refused = system.call("run", "study.yaml")
    assert (refused.returncode, "study.yaml:3: study squares is open" in refused.stderr) == (
        2,
        True,
    )
    assert "Add a point with: queue-runner add squares-" in system.ok("submit", "study.yaml")
    eventually(lambda: system.call("status", "squares").returncode == 0)
    (row,) = json.loads(system.ok("add", "squares", "x=7", "--wait", "--json"))
    assert (row["x"], row["y"], row["state"]) == (7, 49, "succeeded")
    (system.folder / "more.csv").write_text("x\n2\n3\n")
    added = json.loads(system.ok("add", "squares", "--points", "more.csv", "--json"))
    assert len(added["jobs"]) == 2
    eventually(lambda: len(json.loads(system.ok("results", "squares", "--json"))) == 3)
    assert " open " in system.ok("status", "squares")
    wrong = system.call("add", "squares", "y=1")
    assert (wrong.returncode, "no parameter 'y' that is open" in wrong.stderr) == (2, True)
    for words, says in (
        (["x"], "expected NAME=VALUE"),
        ([], "say which point"),
        (["x=1", "x=2"], "twice"),
    ):
        wrong = system.call("add", "squares", *words)
        assert (wrong.returncode, says in wrong.stderr) == (2, True), wrong.stderr
    job = added["jobs"][0]
    assert job.endswith(".0000001"), "no gap"
    assert " x  2\n" in system.ok("show", job)
    assert "the same" in system.ok("rerun", job)
    assert "3 points, 2 runs each" in system.ok("verify", "squares", "--runs", "2")
    system.ok("submit", "study.yaml")
    again = system.json("add", "squares", "x=9", "--wait")
    assert again[0]["y"] == 81
    assert system.call("submit", "study.yaml", "--wait").returncode == 0
    failed = system.call("add", "squares", "x=a", "--wait")
    assert failed.returncode == 1, failed.stdout
