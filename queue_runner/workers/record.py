"""What is known of an attempt, and the result that it comes to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from queue_runner.errors import JobError
from queue_runner.model import Artifact, Failure, Job, Result, Scalar, State
from queue_runner.workers.facts import host
from queue_runner.workers.kinds.base import Kind, Step
from queue_runner.workers.runtimes.base import Left
from queue_runner.workers.workplace import Workplace


@dataclass(slots=True)
class Record:
    """What is known of an attempt so far.

    done: names of the steps that have ended well; began: by `running_s`; left: the step that goes on without
    this worker; handed: whether its successor has the rest; harmless: whether its folder may be looked into.
    """

    metrics: dict[str, Scalar] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    logs: list[str] = field(default_factory=list)
    tail: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    resumed_from: str | None = None
    started_at: float = 0.0
    began: float = 0.0
    steps: tuple[Step, ...] = ()
    left: Left | None = None
    handed: bool = False
    harmless: bool = True

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.timings[name] = round(time.monotonic() - started, 6)


def result_of(
    place: Workplace,
    job: Job,
    attempt: int,
    started_at: float,
    record: Record,
    failure: Failure | None,
) -> Result:
    """Of an attempt that has ended; it says final, for no retry is known of here."""
    return Result(
        job_id=job.id,
        study=job.study,
        index=job.index,
        attempt=attempt,
        state=State.SUCCEEDED if failure is None else State.FAILED,
        final=True,
        point=job.point,
        metrics=record.metrics if failure is None else {},
        failure=failure,
        artifacts=record.artifacts,
        # the tail of a success is in its kept log; in every result it would fill the database
        log_tail=record.tail if failure is not None else "",
        started_at=started_at,
        finished_at=time.time(),
        timings=record.timings,
        worker=place.worker,
        provenance=record.provenance,
    )


def failed(place: Workplace, job: Job, attempt: int, error: JobError) -> Result:
    """The result of an attempt that could not begin."""
    failure = Failure(error.reason, str(error), error.step, error.exit_code)
    return without_run(place.worker, job, attempt, State.FAILED, failure)


def without_run(
    worker: str, job: Job, attempt: int, state: State, failure: Failure | None
) -> Result:
    """The final result of a job that was not run (to its end) here."""
    now = time.time()
    return Result(
        job_id=job.id,
        study=job.study,
        index=job.index,
        attempt=attempt,
        state=state,
        final=True,
        point=job.point,
        failure=failure,
        started_at=now,
        finished_at=now,
        worker=worker,
    )


def provenance(place: Workplace, kind: Kind, job: Job, folder: Path) -> dict[str, str]:
    """What a result was computed with, by name."""
    facts = {**host(), "runtime": place.runtime_name, "ranks": str(job.resources.ranks)}
    facts |= place.runtime.provenance(job)
    if job.bundle is not None:
        facts["bundle"] = job.bundle
    return {**facts, **kind.provenance(job, folder)}
