"""Jobs of a submitted study made anew from what the collector knows of it: the same, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from queue_runner.errors import NotFound
from queue_runner.model import AddedPoint, Job, Scalar, StudyRecord
from queue_runner.records import Records

if TYPE_CHECKING:
    from queue_runner.study import Study

_PAGE = 1000


def jobs_again(records: Records, record: StudyRecord, numbers: Iterable[int]) -> Iterator[Job]:
    """The jobs with these numbers, which come in their order. Raises `NotFound` for one that there is not."""
    from queue_runner.study import Study

    study = Study.from_spec(record.spec)
    points = _added(records, record.id, numbers) if record.open else study.points_at(numbers)
    return study.jobs_at(points, record.bundle)


def study_again(records: Records, record: StudyRecord) -> Study:
    """The study with all points that it has now; its template is the one that is in the store.

    Raises `StudyError` for an open one without any.
    """
    from queue_runner.study import Study

    study = Study.from_record(record)
    if not record.open:
        return study
    return study.closed(each.point for each in _all_added(records, record.id))


def _all_added(records: Records, study: str) -> Iterator[AddedPoint]:
    after = -1
    while page := records.points(study, after=after, limit=_PAGE):
        yield from page
        after = page[-1].index


def _added(
    records: Records, study: str, numbers: Iterable[int]
) -> Iterator[tuple[int, dict[str, Scalar]]]:
    page: dict[int, AddedPoint] = {}
    for number in numbers:
        if number not in page:
            found = records.points(study, after=number - 1, limit=_PAGE)
            page = {each.index: each for each in found}
        if number not in page:
            raise NotFound(f"study {study} has no job {number}: no such point was added to it")
        yield number, dict(page[number].point)
