"""The points of open studies: what clients have added, and the numbers of jobs that they get for more.

A point is known by the number of its job. It comes with `PointsAdded`; or with its result, where the broker
took the job of a client, and failed before it took what tells of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, reduce
from operator import add

from sqlalchemy import BindParameter, Connection, bindparam, case, select, update

from queue_runner.collector import schema
from queue_runner.collector.prepared import Prepared
from queue_runner.model import AddedPoint, Allotment, Scalar, State
from queue_runner.plain import pack
from queue_runner.unpacking import unpack

_OF: BindParameter[str] = bindparam("of")
_STUDY = schema.study.c
_FINISHED = reduce(add, (_STUDY[state.value] for state in State)) >= _STUDY.total
#: No client gets as far; what says so lies, and would leave no numbers to others.
_MOST = 10**15
_HOW_FAR = Prepared(select(_FINISHED).where(_STUDY.id == _OF))
_COUNT = Prepared(
    update(schema.study)
    # a note for one that is not open says nothing
    .where(_STUDY.id == _OF, _STUDY.open | ~_STUDY.known)
    .values(
        open=True,
        total=_STUDY.total + bindparam("more"),
        # a database that was lost gives no number a second time
        submitted=case(
            (_STUDY.submitted < bindparam("upto"), bindparam("upto")), else_=_STUDY.submitted
        ),
    )
    .returning(_FINISHED)
)


def add_points(
    connection: Connection, study: str, points: Sequence[tuple[int, Mapping[str, Scalar]]]
) -> bool:
    """Note those that are not known yet, by their numbers; returns whether every job has its result now."""
    rows = [{"study": study, "idx": index, "body": pack(point)} for index, point in points]
    new = _new_points(connection.dialect.name).run(connection, *rows) if rows else 0
    done = None
    if new:
        upto = 1 + max((index for index, _ in points if index < _MOST), default=-1)
        done = _COUNT.row(connection, {"of": study, "more": new, "upto": upto})
    if done is None:
        (done,) = _HOW_FAR.rows(connection, {"of": study})
    return bool(done[0])


@cache
def _new_points(dialect: str) -> Prepared:
    statement = schema.inserting(dialect, schema.point).on_conflict_do_nothing()
    return Prepared(statement, columns=("study", "idx", "body"))


def points_of(connection: Connection, study: str, *, after: int, limit: int) -> list[AddedPoint]:
    """Those with a number above `after`, at most `limit`."""
    table = schema.point
    query = select(table.c.idx, table.c.body).where(table.c.study == study, table.c.idx > after)
    rows = connection.execute(query.order_by(table.c.idx).limit(limit)).all()
    return [AddedPoint(row.idx, unpack(row.body)) for row in rows]


def allot(connection: Connection, study: str, count: int) -> Allotment | None:
    """So many numbers that nobody else has or gets; None where the study is not open."""
    statement = (
        update(schema.study)
        .where(_STUDY.id == study, _STUDY.open)
        .values(submitted=_STUDY.submitted + count)
        .returning(_STUDY.submitted, _STUDY.arrivals)
    )
    row = connection.execute(statement).first()
    return None if row is None else Allotment(row.submitted - count, row.arrivals)
