"""The collector's database: takes in what came from the broker, and answers what is asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, bindparam, delete, func, select

from queue_runner.collector import schema
from queue_runner.collector.apply import apply_items
from queue_runner.collector.glance import Glance, Seen
from queue_runner.collector.jobs import missing_jobs
from queue_runner.collector.news import News
from queue_runner.collector.points import allot, points_of
from queue_runner.collector.restarts import renumber
from queue_runner.collector.schema import errors, open_engine, unavailable, write_ahead_log
from queue_runner.errors import FixThis, NotFound
from queue_runner.model import (
    AddedPoint,
    Allotment,
    Cancel,
    Heartbeat,
    InboxItem,
    MissingJob,
    Result,
    State,
    StudyRecord,
    StudyStatus,
    WorkerStatus,
)
from queue_runner.records import Arrivals
from queue_runner.wire import decode, encode

#: Seconds after which a worker's word about what it is running is no longer believed.
FRESH_S = 10.0
#: Seconds after which a worker that was not heard of is no longer listed.
_FORGET_S = 3600.0
#: Seconds between looks of those who wait without an ear for the news.
_LOOK_S = 0.05


# Statements of those who wait are made once: to put one together costs more than to execute it.
_STUDY = (
    select(schema.study)
    .where(
        schema.study.c.known,
        (schema.study.c.id == bindparam("study")) | (schema.study.c.name == bindparam("study")),
    )
    # an id is never another study's name by accident, but be sure that the id wins
    .order_by((schema.study.c.id == bindparam("study")).desc(), schema.study.c.submitted_at.desc())
    .limit(1)
)
_ARRIVED = (
    select(schema.result.c.arrival, schema.result.c.body)
    .where(
        schema.result.c.study == bindparam("study"),
        schema.result.c.arrival > bindparam("after"),
    )
    .order_by(schema.result.c.arrival)
    .limit(bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class Arrived:
    """`Arrivals`, its results as the messages that they came as."""

    bodies: Sequence[bytes]
    cursor: int
    done: bool


class Database:
    """SQLite (`sqlite:///file`) or PostgreSQL (`postgresql://...`). Safe to use from several threads.

    Raises `CollectorUnavailable` when the database does not answer, is locked or full.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)
        self.news = News()
        self._writing = self._engine.execution_options(writes=True)
        self._turn = threading.Lock()
        self._kept: Connection | None = None
        self._errors = errors(self._engine)
        with self._translated():
            self._log = write_ahead_log(self._engine)
        # readers of a database with such a log wait for nobody
        local = self._log is not None and self._engine.url.database
        self._glance = Glance(local) if local else None
        if self._log is not None:
            self._settle_the_past()

    def close(self) -> None:
        if self._glance is not None:
            self._glance.close()
        with self._turn:
            self._let_go()
        self._engine.dispose()
        if self._log is not None:
            self._log.close()

    def _settle_the_past(self) -> None:
        """What an earlier process had committed may not have reached the disk, or be gone with the power."""
        with self._translated(), self._engine.connect() as connection:
            # what could not be flushed is written once more, to another place
            connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
        with self._changing() as connection:
            renumbered = renumber(connection)
        if renumbered:
            self.flush()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        """A transaction of the only writer that there can be."""
        if self._log is None:
            with self._translated(), self._writing.begin() as connection:
                yield connection
            return
        # to take a connection from SQLAlchemy's pool, and give it back, costs as much as a small transaction;
        # and who waits for a lock goes on at once, where SQLite looks again after some milliseconds
        with self._turn, self._translated():
            if self._kept is None:
                self._kept = self._writing.connect()
            try:
                with self._kept.begin():
                    yield self._kept
            except BaseException:
                self._let_go()
                raise

    def _let_go(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise unavailable(self._engine, error) from error

    # -- taking in -------------------------------------------------------------------------------

    def apply(self, items: Sequence[InboxItem], bodies: Sequence[bytes] = ()) -> list[Cancel]:
        """Take in a batch, all of it or nothing; returns what workers have to be told.

        Everybody sees it then, and it survives a kill; `flush` makes it survive a power cut.
        bodies: the messages that the items came as, which are kept as they are.
        """
        with self._changing() as connection:
            applied = apply_items(connection, items, bodies)
        self.news.tell(applied.told)
        return applied.cancels

    def flush(self) -> None:
        """All that was taken in is on the disk when it returns. Raises `FlushFailed`."""
        if self._log is not None:
            self._log.flush()

    def heard(self, heartbeats: Sequence[Heartbeat]) -> list[str]:
        """Note what workers say of themselves; returns those never heard of before."""
        now = time.time()
        latest = {beat.worker: beat for beat in heartbeats}
        with self._changing() as connection:
            known = set(
                connection.execute(
                    select(schema.worker.c.worker).where(schema.worker.c.worker.in_(latest))
                ).scalars()
            )
            connection.execute(
                delete(schema.worker).where(
                    schema.worker.c.worker.in_(latest)
                    | (schema.worker.c.heard_at < now - _FORGET_S)
                )
            )
            rows = [
                {"worker": name, "heard_at": now, "body": encode(beat)}
                for name, beat in latest.items()
            ]
            connection.execute(_upsert_worker(connection), rows)
        return [name for name in latest if name not in known]

    def active_cancels(self) -> list[Cancel]:
        """Cancels that were neither lifted nor are of a study that is finished without them."""
        by_study: dict[str, list[str]] = {}
        with self._reading() as connection:
            for study, job in connection.execute(select(schema.cancel)):
                by_study.setdefault(study, []).append(job)
        return [
            Cancel(study, () if "" in jobs else tuple(sorted(jobs)))
            for study, jobs in by_study.items()
        ]

    # -- Records ---------------------------------------------------------------------------------

    def studies(self) -> list[StudyStatus]:
        table = schema.study
        query = select(table).where(table.c.known).order_by(table.c.submitted_at.desc())
        with self._reading() as connection:
            rows = connection.execute(query).all()
        running = self._running()
        return [_status(row, running.get(row.id, 0)) for row in rows]

    def status(self, study: str) -> StudyStatus:
        row = self._study_row(study)
        return _status(row, self._running().get(row.id, 0))

    def study(self, study: str) -> StudyRecord:
        record: bytes = self._study_row(study).record
        return decode(record, StudyRecord)

    def _study_row(self, study: str) -> Row[tuple[object, ...]]:
        with self._reading() as connection:
            row = connection.execute(_STUDY, {"study": study}).first()
        if row is None:
            raise _no_study(study)
        return row

    def glance(self, study: str) -> Seen | None:
        """How far a study is, if that can be said without waiting; for one thread. Raises `NotFound`."""
        try:
            return None if self._glance is None else self._glance.study(study)
        except LookupError:
            raise _no_study(study) from None

    def _running(self) -> dict[str, int]:
        running: dict[str, set[str]] = {}
        for worker in self.workers():
            if worker.age_s <= FRESH_S:
                for job in worker.running:
                    running.setdefault(job.study, set()).add(job.job_id)
        return {study: len(jobs) for study, jobs in running.items()}

    def results(
        self, study: str, *, after: int = -1, limit: int = 1000, states: Sequence[State] = ()
    ) -> list[Result]:
        bodies = self.result_bodies(study, after=after, limit=limit, states=states)
        return [decode(body, Result) for body in bodies]

    def result_bodies(
        self, study: str, *, after: int = -1, limit: int = 1000, states: Sequence[State] = ()
    ) -> Sequence[bytes]:
        """`results` as the messages that they came as."""
        table = schema.result
        number = self._study_row(study).id
        conditions: list[ColumnElement[bool]] = [table.c.study == number, table.c.idx > after]
        if states:
            conditions.append(table.c.state.in_([state.value for state in states]))
        query = select(table.c.body).where(*conditions).order_by(table.c.idx).limit(limit)
        with self._reading() as connection:
            return connection.execute(query).scalars().all()

    def arrivals(
        self,
        study: str,
        *,
        cursor: int = 0,
        limit: int = 1000,
        wait_s: float = 0.0,
        more: bool = False,
    ) -> Arrivals:
        end = time.monotonic() + wait_s
        while True:
            arrived = self.arrived(study, cursor=cursor, limit=limit)
            over = arrived.done and not more
            if arrived.bodies or over or time.monotonic() >= end:
                results = [decode(body, Result) for body in arrived.bodies]
                return Arrivals(results, arrived.cursor, arrived.done)
            time.sleep(_LOOK_S)

    def arrived(self, study: str, *, cursor: int = 0, limit: int = 1000) -> Arrived:
        """`arrivals` as the messages that they came as; does not wait."""
        # asked first: when it says that all have come, the next question finds them
        status = self._study_row(study)
        if status.arrivals <= cursor:
            return Arrived([], cursor, _status(status, 0).done)
        asked = {"study": status.id, "after": cursor, "most": limit}
        with self._reading() as connection:
            rows = connection.execute(_ARRIVED, asked).all()
        done = len(rows) < limit and _status(status, 0).done
        return Arrived([row.body for row in rows], rows[-1].arrival if rows else cursor, done)

    def missing(self, study: str, *, after: int = -1, limit: int = 1000) -> list[MissingJob]:
        row = self._study_row(study)
        with self._reading() as connection:
            return missing_jobs(connection, row.id, after=after, limit=limit)

    def points(self, study: str, *, after: int = -1, limit: int = 1000) -> list[AddedPoint]:
        row = self._study_row(study)
        with self._reading() as connection:
            return points_of(connection, row.id, after=after, limit=limit)

    def allot(self, study: str, count: int) -> Allotment:
        row = self._study_row(study)
        with self._changing() as connection:
            allotment = allot(connection, row.id, count)
        if allotment is None:
            raise FixThis(
                f"study {study} takes no further points: it is not open (see `open` in a study)"
            )
        # what has been given to one client must not be given to another after a power cut
        self.flush()
        return allotment

    def result(self, job_id: str) -> Result:
        query = select(schema.result.c.body).where(schema.result.c.job == job_id)
        with self._reading() as connection:
            body = connection.execute(query).scalar()
        if body is None:
            raise NotFound(
                f"no result of a job {job_id!r} (yet); `queue-runner results` lists them"
            )
        return decode(body, Result)

    def attempts(self, job_id: str) -> list[Result]:
        history, final = schema.attempt, schema.result
        with self._reading() as connection:
            bodies = [
                *connection.execute(
                    select(history.c.body).where(history.c.job == job_id)
                ).scalars(),
                *connection.execute(select(final.c.body).where(final.c.job == job_id)).scalars(),
            ]
        if not bodies:
            raise NotFound(
                f"no attempt at a job {job_id!r} (yet); `queue-runner results` lists jobs"
            )
        # the sort is stable, so that the final one stays last among equals
        return sorted((decode(body, Result) for body in bodies), key=lambda result: result.attempt)

    def references(self) -> Iterator[str]:
        """Hashes of all bundles and artifacts that studies, results and attempts name, repeatedly."""
        with self._reading() as connection:
            for record in self._bodies(connection, schema.study.c.record):
                bundle = decode(record, StudyRecord).bundle
                yield from () if bundle is None else (bundle,)
            for column in (schema.result.c.body, schema.attempt.c.body):
                for body in self._bodies(connection, column):
                    yield from (artifact.sha256 for artifact in decode(body, Result).artifacts)

    def is_finished(self, job_id: str) -> bool:
        """Whether a job has its final result; False for one that is not known."""
        query = select(schema.result.c.job).where(schema.result.c.job == job_id)
        with self._reading() as connection:
            return connection.execute(query).first() is not None

    def _bodies(self, connection: Connection, column: Column[bytes]) -> Iterator[bytes]:
        # in pages by a cursor of the database's own: there may be millions
        paged = connection.execution_options(yield_per=1000)
        return iter(paged.execute(select(column).where(column.is_not(None))).scalars())

    def workers(self) -> list[WorkerStatus]:
        now = time.time()
        query = select(schema.worker).where(schema.worker.c.heard_at > now - _FORGET_S)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(schema.worker.c.worker)).all()
        return [_worker_status(decode(row.body, Heartbeat), now - row.heard_at) for row in rows]

    def counts(self) -> dict[str, int]:
        """Final results by state, over all studies."""
        table = schema.study
        sums = [func.coalesce(func.sum(table.c[state.value]), 0) for state in State]
        with self._reading() as connection:
            row = connection.execute(select(*sums)).one()
        return {state.value: int(count) for state, count in zip(State, row, strict=True)}


def _no_study(study: str) -> NotFound:
    return NotFound(f"no study {study!r}; `queue-runner status` lists them")


def _status(row: Row[Any], running: int) -> StudyStatus:
    """running: as heartbeats have it, which are older than results; never more than are unfinished."""
    finished: int = row.succeeded + row.failed + row.cancelled
    return StudyStatus(
        id=row.id,
        name=row.name,
        kind=row.kind,
        total=row.total,
        # numbers may have been allotted to clients that have not used them yet
        submitted=min(row.submitted, row.total) if row.open else row.submitted,
        running=min(running, max(0, row.total - finished)),
        succeeded=row.succeeded,
        failed=row.failed,
        cancelled=row.cancelled,
        submitted_at=row.submitted_at,
        last_result_at=row.last_result_at,
        open=bool(row.open),
    )


def _worker_status(beat: Heartbeat, age_s: float) -> WorkerStatus:
    return WorkerStatus(
        worker=beat.worker,
        host=beat.host,
        state=beat.state,
        queues=beat.queues,
        cores=beat.cores,
        cores_free=beat.cores_free,
        running=beat.running,
        version=beat.version,
        age_s=max(0.0, age_s),
    )


def _upsert_worker(connection: Connection) -> Any:
    statement = schema.inserting(connection.dialect.name, schema.worker)
    return statement.on_conflict_do_update(
        index_elements=["worker"],
        set_={"heard_at": statement.excluded.heard_at, "body": statement.excluded.body},
    )
