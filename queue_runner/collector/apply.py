"""Taking a batch of inbox items into the database, inside one transaction.

The rows of the studies concerned are locked first, in the order of their ids, so that several
collectors on one PostgreSQL take turns per study, and arrival numbers come up in the order in which
they are committed.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import groupby
from operator import add
from typing import TypeVar

from sqlalchemy import BindParameter, Connection, bindparam, delete, select, update

from queue_runner.collector import schema
from queue_runner.collector.jobs import (
    chunks,
    index_of,
    job_id,
    last_attempts,
    only_jobs,
    unfinished,
)
from queue_runner.collector.news import Added, Told
from queue_runner.collector.points import add_points
from queue_runner.collector.prepared import Prepared, driver
from queue_runner.collector.rules import Stored, Verdict, judge
from queue_runner.model import (
    Cancel,
    CancelRequest,
    InboxItem,
    JobsSubmitted,
    PointsAdded,
    Result,
    RetryRequest,
    State,
    StudyRecord,
)
from queue_runner.wire import encode

T = TypeVar("T")

_OF: BindParameter[str] = bindparam("of")
_SUBMITTED = Prepared(
    update(schema.study)
    .where(schema.study.c.id == _OF, schema.study.c.submitted < bindparam("upto"))
    .values(submitted=bindparam("upto"))
)
_TAKE_STUDY = Prepared(
    update(schema.study)
    .where(schema.study.c.id == _OF, ~schema.study.c.known)
    .values(
        known=True,
        # points may have come before their study, if it is open
        total=bindparam("its_total") + bindparam("its_growth") * schema.study.c.total,
        **{
            name: bindparam(f"its_{name}")
            for name in ("name", "kind", "submitted_at", "record", "open")
        },
    )
    .returning(schema.study.c.arrivals)
)
_WHOLE_CANCELLED = Prepared(
    select(schema.cancel.c.job).where(schema.cancel.c.study == _OF, schema.cancel.c.job == "")
)
_STATES = tuple(state.value for state in State)
_COUNTED = tuple(schema.study.c[name] for name in _STATES)
_ADD_FINALS = Prepared(
    update(schema.study)
    .where(schema.study.c.id == _OF)
    .values(
        {column: column + bindparam(f"more_{column.name}") for column in _COUNTED}
        | {
            schema.study.c.arrivals: schema.study.c.arrivals + bindparam("more_arrivals"),
            schema.study.c.last_result_at: bindparam("now"),
        }
    )
    .returning(
        schema.study.c.arrivals,
        schema.study.c.known,
        reduce(add, _COUNTED) >= schema.study.c.total,
        schema.study.c.open,
    )
)
#: A study that is not known yet; its id is to be added.
_NEW_STUDY: Mapping[str, object] = {
    "known": False,
    "name": "",
    "kind": "",
    "total": 0,
    "submitted": 0,
    "succeeded": 0,
    "failed": 0,
    "cancelled": 0,
    "arrivals": 0,
    "submitted_at": 0.0,
}


@dataclass(frozen=True, slots=True)
class Applied:
    """What follows from a batch: broadcasts, and what those who wait for results may be told."""

    cancels: list[Cancel]
    told: Told


@dataclass(frozen=True, slots=True)
class Reported:
    """A result and its encoded form, as it is kept."""

    result: Result
    body: bytes


def apply_items(
    connection: Connection, items: Sequence[InboxItem], bodies: Sequence[bytes] = ()
) -> Applied:
    """Apply items in their order.

    bodies: the messages that the items came as, so that none has to be encoded again.
    """
    _lock_studies(connection, sorted({study_of(item) for item in items}))
    cancels: list[Cancel] = []
    added: list[tuple[str, Added]] = []
    changed: set[str] = set()
    results: list[Reported] = []
    for place, item in enumerate(items):
        if isinstance(item, Result):
            results.append(Reported(item, bodies[place] if bodies else encode(item)))
            continue
        added += _apply_results(connection, results)
        results.clear()
        if isinstance(item, StudyRecord):
            changed |= {item.id} if _apply_study(connection, item) else set()
        elif isinstance(item, JobsSubmitted):
            _apply_submitted(connection, item)
        elif isinstance(item, PointsAdded):
            changed |= {item.study} if _apply_points(connection, item) else set()
        else:
            changed.add(item.study)
            cancels += _apply_request(connection, item)
    added += _apply_results(connection, results)
    return Applied(cancels, _told(items, added, changed))


def _told(
    items: Sequence[InboxItem], added: Sequence[tuple[str, Added]], changed: Collection[str]
) -> Told:
    """What was added, where that alone has happened to a study, once: a later item may have replaced some.

    Nothing of a study that has only become known, or further submitted: nobody waits for that.
    """
    told: dict[str, Added | None] = dict.fromkeys(changed)
    told.update((item.study, None) for item in items if isinstance(item, Result))
    times = Counter(study for study, _ in added)
    told.update((study, each) for study, each in added if times[study] == 1)
    told.update((item.study, None) for item in items if isinstance(item, RetryRequest))
    return told


def _apply_request(connection: Connection, request: CancelRequest | RetryRequest) -> list[Cancel]:
    if isinstance(request, CancelRequest):
        return _apply_cancel(connection, request)
    return _apply_retry(connection, request)


def study_of(item: InboxItem) -> str:
    return item.id if isinstance(item, StudyRecord) else item.study


def _lock_studies(connection: Connection, studies: Sequence[str]) -> None:
    """Make sure that each has a row, and hold it."""
    rows = [{"id": study, **_NEW_STUDY} for study in studies]
    if rows:
        _new_studies(connection.dialect.name).run(connection, *rows)
    if connection.dialect.name == "sqlite":
        return  # its write lock holds everything already
    for some in chunks(studies):
        query = select(schema.study.c.id).where(schema.study.c.id.in_(some))
        connection.execute(query.order_by(schema.study.c.id).with_for_update()).all()


@cache
def _new_studies(dialect: str) -> Prepared:
    statement = schema.inserting(dialect, schema.study).on_conflict_do_nothing()
    return Prepared(statement, columns=("id", *_NEW_STUDY))


# -- studies -------------------------------------------------------------------------------------


def _apply_study(connection: Connection, record: StudyRecord) -> bool:
    """Whether there is something to tell of it: results that came before it, or an end."""
    values = {
        "of": record.id,
        "its_name": record.name,
        "its_kind": record.kind,
        "its_total": record.total,
        "its_submitted_at": record.submitted_at,
        "its_record": encode(record),
        "its_open": record.open,
        "its_growth": int(record.open),
    }
    taken = _TAKE_STUDY.row(connection, values)
    if taken is None:
        return False  # it was known
    if _whole_study_cancelled(connection, record.id):
        _cancel_rest(connection, record.id)
        return True
    (arrivals,) = taken
    return bool(arrivals) or record.total == 0


def _apply_points(connection: Connection, item: PointsAdded) -> bool:
    """Whether there is something to tell: they were cancelled with their study."""
    add_points(connection, item.study, list(enumerate(item.points, item.first)))
    if not _whole_study_cancelled(connection, item.study):
        return False
    _cancel_rest(connection, item.study, item.first - 1)
    return True


def _apply_submitted(connection: Connection, item: JobsSubmitted) -> None:
    _SUBMITTED.run(connection, {"of": item.study, "upto": item.upto})


# -- results -------------------------------------------------------------------------------------


def _apply_results(connection: Connection, results: Sequence[Reported]) -> list[tuple[str, Added]]:
    if not results:
        return []
    stored = _stored(connection, [each.result.job_id for each in results])
    finals: dict[str, Reported] = {}
    replaced: set[str] = set()
    history: list[Reported] = []
    deltas: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for each in results:
        result = each.result
        before = stored.get(result.job_id)
        verdict = judge(before, result)
        if verdict is Verdict.HISTORY:
            history.append(each)
        elif verdict is Verdict.FINAL:
            if before is not None:
                deltas[result.study][before.state.value] -= 1
                earlier = finals.get(result.job_id)
                history += [earlier] if earlier is not None else []
                replaced |= {result.job_id} if earlier is None else set()
            deltas[result.study][result.state.value] += 1
            finals[result.job_id] = each
            stored[result.job_id] = Stored(result.attempt, result.state, result.worker)
    if replaced:
        _to_history(connection, sorted(replaced))
    if history:
        _add_history(connection, history)
    return _add_finals(connection, list(finals.values()), deltas)


def _stored(connection: Connection, jobs: Sequence[str]) -> dict[str, Stored]:
    found: dict[str, Stored] = {}
    for some in chunks(jobs):
        size = 1 << (len(some) - 1).bit_length()
        wanted = {f"job{n}": job for n, job in enumerate([*some, *[some[0]] * (size - len(some))])}
        for job, attempt, state, worker in _found(size).rows(connection, wanted):
            found[job] = Stored(attempt, State(state), worker)
    return found


@cache
def _found(size: int) -> Prepared:
    """Results of so many jobs, a power of two; where there are fewer, one of them is named again."""
    table = schema.result
    jobs = [bindparam(f"job{number}", type_=table.c.job.type) for number in range(size)]
    columns = select(table.c.job, table.c.attempt, table.c.state, table.c.worker)
    return Prepared(columns.where(table.c.job.in_(jobs)))


def _add_finals(
    connection: Connection, finals: Sequence[Reported], deltas: dict[str, dict[str, int]]
) -> list[tuple[str, Added]]:
    added: list[tuple[str, Added]] = []
    now = time.time()
    rows: list[tuple[object, ...]] = []
    for study, group in groupby(sorted(finals, key=_by_study), key=_by_study):
        arrived = list(group)
        counts = deltas[study]
        more = {f"more_{name}": counts.get(name, 0) for name in _STATES}
        values = {"of": study, "more_arrivals": len(arrived), "now": now, **more}
        ((last, known, done, growing),) = _ADD_FINALS.rows(connection, values)
        if growing:
            # of a client that a broker failed its jobs may be here, and what tells of them not
            points = [(each.result.index, each.result.point) for each in arrived]
            done = add_points(connection, study, points)
        first = last - len(arrived) + 1
        rows += [_row(each, first + place) for place, each in enumerate(arrived)]
        if known:
            added.append((study, Added(first - 1, [each.body for each in arrived], bool(done))))
    if rows:
        # SQLAlchemy's own way from a map to a row costs more than the database's
        driver(connection).cursor().executemany(_insert_result(connection.dialect.name), rows)
    return added


@cache
def _insert_result(dialect: str) -> str:
    """The statement that takes rows of `_row`."""
    columns = schema.result.columns.keys()
    mark = "?" if dialect == "sqlite" else "%s"
    return f"INSERT INTO result ({', '.join(columns)}) VALUES ({', '.join([mark] * len(columns))})"


def _by_study(reported: Reported) -> str:
    return reported.result.study


def _row(reported: Reported, arrival: int) -> tuple[object, ...]:
    """In the order of the table's columns."""
    result = reported.result
    return (
        result.job_id,
        result.study,
        result.index,
        result.attempt,
        result.state.value,
        result.worker,
        arrival,
        reported.body,
    )


def _add_history(connection: Connection, history: Sequence[Reported]) -> None:
    rows = [
        {
            "job": each.result.job_id,
            "attempt": each.result.attempt,
            "worker": each.result.worker,
            "state": each.result.state.value,
            "study": each.result.study,
            "body": each.body,
        }
        for each in history
    ]
    if rows:
        connection.execute(
            schema.inserting(connection.dialect.name, schema.attempt).on_conflict_do_nothing(), rows
        )


def _to_history(connection: Connection, jobs: Sequence[str]) -> None:
    """Move final results among the attempts; counters are the caller's business."""
    final = schema.result
    columns = (
        final.c.job,
        final.c.attempt,
        final.c.worker,
        final.c.state,
        final.c.study,
        final.c.body,
    )
    for some in chunks(jobs):
        moved = select(*columns).where(final.c.job.in_(some))
        connection.execute(
            schema.inserting(connection.dialect.name, schema.attempt)
            .from_select([column.name for column in columns], moved)
            .on_conflict_do_nothing()
        )
        connection.execute(delete(final).where(final.c.job.in_(some)))


# -- cancel and retry ----------------------------------------------------------------------------


def _apply_cancel(connection: Connection, request: CancelRequest) -> list[Cancel]:
    """Jobs without a final result get one that says cancelled; workers are told to stop them."""
    jobs = request.jobs or ("",)
    rows = [{"study": request.study, "job": job} for job in jobs]
    connection.execute(
        schema.inserting(connection.dialect.name, schema.cancel).on_conflict_do_nothing(), rows
    )
    if request.jobs:
        _cancel_jobs(connection, request.study, request.jobs)
    else:
        _cancel_rest(connection, request.study)
    return [Cancel(request.study, request.jobs)]


def _cancel_rest(connection: Connection, study: str, after: int = -1) -> None:
    for indexes in unfinished(connection, study, after):
        _add_cancelled(connection, study, indexes)


def _cancel_jobs(connection: Connection, study: str, jobs: Sequence[str]) -> None:
    there = _stored(connection, jobs)
    indexes = [index_of(study, job) for job in jobs if job not in there]
    named = [index for index in indexes if index is not None]
    _add_cancelled(connection, study, only_jobs(connection, study, named))


def _add_cancelled(connection: Connection, study: str, indexes: Sequence[int]) -> None:
    jobs = [job_id(study, index) for index in indexes]
    attempts = last_attempts(connection, jobs)
    now = time.time()
    cancelled = [
        Result(
            job_id=job,
            study=study,
            index=index,
            attempt=attempts.get(job, 1),
            state=State.CANCELLED,
            final=True,
            point={},
            started_at=now,
            finished_at=now,
        )
        for job, index in zip(jobs, indexes, strict=True)
    ]
    reported = [Reported(result, encode(result)) for result in cancelled]
    _add_finals(connection, reported, {study: {State.CANCELLED.value: len(cancelled)}})


def _apply_retry(connection: Connection, request: RetryRequest) -> list[Cancel]:
    """Failed and cancelled jobs have no final result any more; cancels of them are lifted."""
    table = schema.result
    conditions = [
        table.c.study == request.study,
        table.c.state.in_([State.FAILED.value, State.CANCELLED.value]),
    ]
    if request.jobs:
        conditions.append(table.c.job.in_(request.jobs))
    rows = connection.execute(select(table.c.job, table.c.state).where(*conditions)).all()
    _to_history(connection, [row.job for row in rows])
    counters = schema.study
    for state in (State.FAILED.value, State.CANCELLED.value):
        gone = sum(row.state == state for row in rows)
        connection.execute(
            update(counters)
            .where(counters.c.id == request.study)
            .values({state: counters.c[state] - gone})
        )
    return _lift(connection, request)


def _lift(connection: Connection, request: RetryRequest) -> list[Cancel]:
    table = schema.cancel
    whole = not request.jobs or _whole_study_cancelled(connection, request.study)
    lifting = delete(table).where(table.c.study == request.study)
    if not whole:
        lifting = lifting.where(table.c.job.in_(request.jobs))
    if not connection.execute(lifting).rowcount:
        return []
    return [Cancel(request.study, () if whole else request.jobs, lifted=True)]


def _whole_study_cancelled(connection: Connection, study: str) -> bool:
    return _WHOLE_CANCELLED.row(connection, {"of": study}) is not None
