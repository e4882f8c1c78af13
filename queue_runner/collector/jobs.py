"""Which jobs a study has, by their numbers, and which of them have no final result."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from queue_runner.collector import schema
from queue_runner.model import MissingJob

T = TypeVar("T")

#: Values bound in one statement; SQLite allowed 999 for a long time.
_SOME = 500
#: Jobs that are looked at together: numbers are compared here, for databases have no list of them.
_CHUNK = 10_000


def job_id(study: str, index: int) -> str:
    """The id of a study's job; the same as in `queue_runner.study`, which a test holds."""
    return f"{study}.{index:07}"


def last_attempts(connection: Connection, jobs: Sequence[str]) -> dict[str, int]:
    """The highest attempt in the history of each job that has one."""
    table = schema.attempt
    found: dict[str, int] = {}
    for some in chunks(jobs):
        for job, number in connection.execute(
            select(table.c.job, table.c.attempt).where(table.c.job.in_(some))
        ):
            found[job] = max(number, found.get(job, 1))
    return found


def index_of(study: str, job: str) -> int | None:
    prefix, _, number = job.rpartition(".")
    return int(number) if prefix == study and number.isdecimal() else None


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for first in range(0, len(values), _SOME):
        yield values[first : first + _SOME]


def missing_jobs(connection: Connection, study: str, *, after: int, limit: int) -> list[MissingJob]:
    """Submitted, without a final result, and with a number above `after`; at most `limit`."""
    indexes = list(
        islice(chain.from_iterable(unfinished(connection, study, after, sent=True)), limit)
    )
    jobs = [job_id(study, index) for index in indexes]
    attempts = last_attempts(connection, jobs)
    return [MissingJob(n, attempts.get(job, 0)) for n, job in zip(indexes, jobs, strict=True)]


def unfinished(
    connection: Connection, study: str, after: int = -1, *, sent: bool = False
) -> Iterator[list[int]]:
    """The numbers of jobs without a final result, in their order, those above `after`, some at a time.

    sent: only of those that were submitted.
    """
    table = schema.result
    for numbers in _numbers(connection, study, after, sent):
        query = select(table.c.idx).where(
            table.c.study == study, table.c.idx >= numbers[0], table.c.idx <= numbers[-1]
        )
        there = set(connection.execute(query).scalars())
        yield [number for number in numbers if number not in there]


def _numbers(connection: Connection, study: str, after: int, sent: bool) -> Iterator[Sequence[int]]:
    row = _counts(connection, study)
    if row.open:
        yield from _added(connection, study, after)
        return
    end = row.submitted if sent else row.total
    for first in range(after + 1, end, _CHUNK):
        yield range(first, min(first + _CHUNK, end))


def _added(connection: Connection, study: str, after: int) -> Iterator[Sequence[int]]:
    table = schema.point
    columns = select(table.c.idx).where(table.c.study == study)
    while True:
        query = columns.where(table.c.idx > after).order_by(table.c.idx).limit(_CHUNK)
        numbers = connection.execute(query).scalars().all()
        if not numbers:
            return
        yield numbers
        after = numbers[-1]


def _counts(connection: Connection, study: str) -> Any:
    table = schema.study.c
    query = select(table.open, table.total, table.submitted).where(table.id == study)
    row: Any = connection.execute(query).one()
    return row


def only_jobs(connection: Connection, study: str, numbers: Collection[int]) -> list[int]:
    """Those of the numbers that are jobs of the study."""
    row = _counts(connection, study)
    if not row.open:
        return [number for number in numbers if number < row.total]
    table = schema.point
    found: list[int] = []
    for some in chunks(sorted(numbers)):
        query = select(table.c.idx).where(table.c.study == study, table.c.idx.in_(some))
        found += connection.execute(query).scalars()
    return found
