"""Points for an open study, one by one, and their results: what comes next may depend on what came.

The collector gives out the numbers of the jobs, some at a time, so that several clients may add to one study,
and one that was killed leaves no number to be used twice. A job travels with a note for the collector, by
which it can be made again; after that nothing is asked but for results. Who waits for the result of a job
sends the note a moment later, when that has not come: a result says all that its note would.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from queue_runner.brokers.base import Broker
from queue_runner.client.submit import BATCH, batches, job_message, to_inbox
from queue_runner.errors import CollectorUnavailable, FixThis, NotFound
from queue_runner.model import Allotment, Job, PointsAdded, Result, Scalar, StudyRecord
from queue_runner.records import Records
from queue_runner.signing import Seal

if TYPE_CHECKING:
    from queue_runner.study import Study

T = TypeVar("T")

#: Numbers that are asked for at a time: at first those that are needed, then twice as many, up to this.
_MOST_NUMBERS = 1024
#: Seconds between questions for a study that was submitted a moment ago, and for how long.
_UNKNOWN_S, _PATIENCE_S = 0.02, 30.0
#: Seconds for which the collector is asked to wait when there is nothing yet.
WAIT_S = 10.0
#: Seconds after which a job that is waited for is noted.
_NOTED_S = 0.05


class Additions:
    """What one handle has added to its study. For one thread at a time.

    record: what jobs are made from, that of the collector if None; attend: called while results are waited
    for; added: the numbers of all its jobs.
    """

    def __init__(
        self,
        records: Records,
        broker: Broker,
        seal: Seal,
        study: str,
        record: StudyRecord | None,
        attend: Callable[[], None] = lambda: None,
    ) -> None:
        self._records, self._broker, self._seal, self._id = records, broker, seal, study
        self._given, self._attend = record, attend
        self._numbers: range = range(0)
        self._next_numbers = 1
        self._cursor: int | None = None
        self._pending: set[int] = set()
        self._came: deque[Result] = deque()
        self.added: set[int] = set()

    def add(self, points: Sequence[Mapping[str, object]]) -> list[str]:
        complete = [self._study.complete(point) for point in points]
        made: list[str] = []
        for batch in batches(complete, BATCH):
            notes, jobs = self._made(batch)
            self._publish(jobs, notes)
            made += [job.id for job in jobs]
        return made

    def evaluate(self, point: Mapping[str, object], timeout_s: float | None) -> Result:
        notes, jobs = self._made([self._study.complete(point)])
        self._publish(jobs)
        try:
            self._receive(_NOTED_S if timeout_s is None else max(0.0, min(_NOTED_S, timeout_s)))
        finally:
            if jobs[0].index in self._pending:
                self._publish((), notes)
        job = jobs[0].id
        others: list[Result] = []
        try:
            while (result := self.next_result(timeout_s)).job_id != job:
                others.append(result)
        finally:
            self._came.extendleft(reversed(others))
        return result

    def next_result(self, timeout_s: float | None) -> Result:
        end = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not self._came:
            if not self._pending:
                raise FixThis(f"{self._id}: no result is to come: add a point first")
            self._attend()
            self._receive(min(WAIT_S, max(0.0, end - time.monotonic())))
            if not self._came and time.monotonic() >= end:
                raise TimeoutError(
                    f"{self._id}: no result for {timeout_s:g} s; {len(self._pending)} are to come."
                    " Is a worker running? See `queue-runner status`."
                )
        return self._came.popleft()

    def _receive(self, wait_s: float) -> None:
        arrived = self._records.arrivals(
            self._id, cursor=self._cursor or 0, wait_s=wait_s, more=True
        )
        self._cursor = arrived.cursor
        for result in arrived.results:
            # others add to the study, too; and what is retried arrives again
            if result.index in self._pending:
                self._pending.discard(result.index)
                self._came.append(result)

    # -- jobs --------------------------------------------------------------------------------

    def _made(self, points: Sequence[dict[str, Scalar]]) -> tuple[list[PointsAdded], list[Job]]:
        notes: list[PointsAdded] = []
        jobs: list[Job] = []
        remaining = iter(points)
        for numbers in self._take(len(points)):
            some = [(number, next(remaining)) for number in numbers]
            added = tuple(point for _, point in some)
            notes.append(PointsAdded(self._id, numbers.start, added))
            jobs += self._study.jobs_at(some, self._record.bundle)
        return notes, jobs

    def _publish(self, jobs: Sequence[Job], notes: Sequence[PointsAdded] = ()) -> None:
        messages = [to_inbox(note, self._seal) for note in notes]
        messages += [job_message(job, seal=self._seal) for job in jobs]
        self._broker.publish(messages)
        self._pending.update(job.index for job in jobs)
        self.added.update(job.index for job in jobs)

    def _take(self, count: int) -> Iterator[range]:
        """Numbers that nobody else has, in as few rows as there are."""
        while count:
            if not self._numbers:
                allotted = max(count, self._next_numbers)
                self._next_numbers = min(2 * self._next_numbers, _MOST_NUMBERS)
                first = self._allot(allotted).first
                self._numbers = range(first, first + allotted)
            taken, self._numbers = self._numbers[:count], self._numbers[count:]
            count -= len(taken)
            yield taken

    def _allot(self, count: int) -> Allotment:
        allotment = self._known(lambda: self._records.allot(self._id, count))
        if self._cursor is None:
            self._cursor = allotment.arrivals
        return allotment

    @cached_property
    def _record(self) -> StudyRecord:
        return self._given or self._known(lambda: self._records.study(self._id))

    @cached_property
    def _study(self) -> Study:
        from queue_runner.study import Study

        return Study.from_record(self._record)

    def _known(self, ask: Callable[[], T]) -> T:
        """What is asked for, when the collector has taken in a study that was submitted a moment ago."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return ask()
            except NotFound as error:
                if time.monotonic() >= end:
                    raise CollectorUnavailable(
                        f"the collector does not know {self._id} after {_PATIENCE_S:.0f} s. Does it run, and"
                        " on the same broker? See `queue-runner doctor`."
                    ) from error
                time.sleep(_UNKNOWN_S)
