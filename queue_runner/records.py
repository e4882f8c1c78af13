"""What can be asked about studies and results: by the collector's database, or over its HTTP API.

The client is written against this, so that an embedded run and a remote collector look the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from queue_runner.model import (
    AddedPoint,
    Allotment,
    MissingJob,
    Result,
    State,
    StudyRecord,
    StudyStatus,
    WorkerStatus,
)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """cursor: where to go on; done: every job of the study has its final result, and none is left here."""

    results: Sequence[Result]
    cursor: int
    done: bool


#: Of an HTTP answer that stays open while results come: its media type, and in how many bytes the length of
#: each of its parts stands before it.
FOLLOWED = "application/vnd.queue-runner.arrivals"
LENGTH_BYTES = 4


class Records(Protocol):
    """Read access. Every method raises `NotFound` for a study or job that is not there."""

    def studies(self) -> list[StudyStatus]:
        """All studies, the latest first."""

    def study(self, study: str) -> StudyRecord:
        """By id, or by name: then the latest of that name."""

    def status(self, study: str) -> StudyStatus: ...

    def results(
        self,
        study: str,
        *,
        after: int = -1,
        limit: int = 1000,
        states: Sequence[State] = (),
    ) -> list[Result]:
        """Final results in the order of their index, those with an index above `after`."""

    def arrivals(
        self,
        study: str,
        *,
        cursor: int = 0,
        limit: int = 1000,
        wait_s: float = 0.0,
        more: bool = False,
    ) -> Arrivals:
        """Final results in the order they arrived, from `cursor` on.

        wait_s: seconds to wait where there is none yet and some are to come; more: though every job that
        is known has one, as more are being added to an open study. A job whose final result
        was replaced (after a retry by hand) arrives again.
        """

    def missing(self, study: str, *, after: int = -1, limit: int = 1000) -> list[MissingJob]:
        """Submitted jobs without a final result, in the order of their index: waiting, running or lost."""

    def points(self, study: str, *, after: int = -1, limit: int = 1000) -> list[AddedPoint]:
        """What was added to an open study, in the order of the numbers, those above `after`."""

    def allot(self, study: str, count: int) -> Allotment:
        """Numbers for so many further jobs of an open study. Raises `FixThis` for one that is not open."""

    def result(self, job_id: str) -> Result:
        """The final result of one job."""

    def attempts(self, job_id: str) -> list[Result]:
        """Every attempt at a job that was reported, oldest first, the final one included."""

    def workers(self) -> list[WorkerStatus]:
        """Workers heard of in the last hour."""
