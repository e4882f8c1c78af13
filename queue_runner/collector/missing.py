"""Which submitted jobs have no final result."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from sqlalchemy import Connection, select

from queue_runner.collector import schema
from queue_runner.collector.apply import job_id, last_attempts
from queue_runner.model import MissingJob

#: Jobs that are looked at together: indexes are compared here, for databases have no list of them.
_CHUNK = 10_000


def missing_jobs(
    connection: Connection, study: str, submitted: int, *, after: int, limit: int
) -> list[MissingJob]:
    """Those with an index above `after` and below `submitted`, at most `limit`."""
    indexes = list(islice(_indexes(connection, study, after + 1, submitted), limit))
    jobs = [job_id(study, index) for index in indexes]
    attempts = last_attempts(connection, jobs)
    return [MissingJob(n, attempts.get(job, 0)) for n, job in zip(indexes, jobs, strict=True)]


def _indexes(connection: Connection, study: str, start: int, end: int) -> Iterator[int]:
    table = schema.result
    for first in range(start, end, _CHUNK):
        last = min(first + _CHUNK, end) - 1
        query = select(table.c.idx).where(
            table.c.study == study, table.c.idx >= first, table.c.idx <= last
        )
        there = set(connection.execute(query).scalars())
        yield from (index for index in range(first, last + 1) if index not in there)
