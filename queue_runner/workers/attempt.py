"""One attempt at one job, from an empty folder to a result. Knows no broker."""

from __future__ import annotations

import errno
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from queue_runner.errors import (
    DiskFull,
    EngineUnavailable,
    JobError,
    StoreRefused,
    StoreUnavailable,
)
from queue_runner.model import Failure, Job, Reason, Result
from queue_runner.workers.artifacts import log_tail
from queue_runner.workers.checkpoints import Checkpoints, begin
from queue_runner.workers.handover import Handed, running_s
from queue_runner.workers.judging import judge
from queue_runner.workers.keeping import keep, leave
from queue_runner.workers.kinds.base import Call, Kind, Step
from queue_runner.workers.leavings import make_harmless, remove
from queue_runner.workers.measure import measure
from queue_runner.workers.pybatch import RETURNED
from queue_runner.workers.record import Record, provenance, result_of
from queue_runner.workers.runtimes.base import HANDED_OVER, Called, Outcome, Stop, Stopped
from queue_runner.workers.site import at
from queue_runner.workers.workplace import Workplace, find_kind

_TRACE_LINES = 40

log = logging.getLogger("queue_runner.worker")


def attempt_job(
    place: Workplace,
    job: Job,
    attempt: int,
    stop: Stop,
    work_is_over: Callable[[], None] = lambda: None,
) -> Result:
    """Run a job, or go on with it where this worker's predecessor has left it. The result says final, which
    the caller may take back where a retry follows. work_is_over: told when nothing of it runs any more, and
    what it wrote is about to be measured and kept; not of one that failed.

    Raises `Stopped`; `StoreUnavailable`, `StoreRefused` or `DiskFull` when it could not begin for want of
    its bundle or of space; `EngineUnavailable` when its containers went with their engine. Once it has
    run, it waits for its store instead.
    """
    handed = None if place.handovers is None else place.handovers.take(job.id)
    folder = place.folder / (f"{job.id}.{attempt}" if handed is None else handed.folder)

    def attempted(record: Record) -> None:
        if handed is None:
            _run(place, job, attempt, folder, stop, record, work_is_over)
        else:
            _go_on(place, job, attempt, folder, stop, record, work_is_over, handed)

    started_at = time.time() if handed is None else handed.started_at
    return _recorded(place, job, attempt, started_at, folder, attempted)


def end_call(
    place: Workplace, job: Job, attempt: int, called: Called, call: Call, stop: Stop
) -> Result:
    """The end of an attempt that a runtime's `call` has made, where there is something to see.

    Raises as `attempt_job` does.
    """
    folder = place.folder / f"{job.id}.{attempt}"

    def attempted(record: Record) -> None:
        kind = find_kind(job.kind)
        record.logs.append(call.step.log)
        record.timings[f"step:{call.step.name}"] = round(called.wall_s, 6)
        with _ending(place, kind, job, folder, stop, record):
            _take_over(called, folder)
            record.tail = log_tail(folder / call.step.log)
            judge(kind, job, folder, call.step, called.outcome, record.tail)

    return _recorded(place, job, attempt, called.started_at, folder, attempted)


def _take_over(called: Called, folder: Path) -> None:
    remove(folder)
    if called.folder is None:
        folder.mkdir(mode=0o700)
        return
    called.folder.rename(folder)
    if called.returned is not None:
        (folder / RETURNED).unlink(missing_ok=True)
        (folder / RETURNED).write_text(called.returned)


def _recorded(
    place: Workplace,
    job: Job,
    attempt: int,
    started_at: float,
    folder: Path,
    attempted: Callable[[Record], None],
) -> Result:
    """What `attempted` comes to; the work folder is gone, or where it is kept, afterwards."""
    record, failure = Record(started_at=started_at), None
    try:
        site = place.runtime.site(job)
        if place.accept.images is not None:
            place.accept.check_image(job.image, place.runtime.image_names(job))
        with at(site):
            attempted(record)
    except JobError as error:
        failure = Failure(error.reason, str(error), error.step, error.exit_code)
    except OSError as error:
        if error.errno == errno.ENOSPC and not record.logs:
            raise DiskFull(f"no space left for its work folder in {place.folder}") from error
        reason = Reason.DISK_FULL if error.errno == errno.ENOSPC else Reason.PREPARE
        failure = Failure(reason, f"work folder: {error}")
    except (Stopped, StoreUnavailable, StoreRefused, EngineUnavailable):
        raise
    except Exception as error:  # noqa: BLE001 - a bug of a plug-in costs its own job only
        failure = Failure(
            Reason.BROKEN_KIND,
            f"a bug in kind {job.kind!r}: {type(error).__name__}: {error}; the log has its trace",
        )
        record.tail = "\n".join(traceback.format_exc().splitlines()[-_TRACE_LINES:])
    finally:
        if not record.handed:
            leave(place, folder, job, failed=failure is not None)
    return result_of(place, job, attempt, started_at, record, failure)


def _run(
    place: Workplace,
    job: Job,
    attempt: int,
    folder: Path,
    stop: Stop,
    record: Record,
    work_is_over: Callable[[], None],
) -> None:
    kind = find_kind(job.kind)
    saved = _checkpoints(place, kind, job, folder, record)
    with record.timed("prepare"):
        _prepare(place, kind, job, folder)
        if saved is not None:
            record.resumed_from, broken = begin(saved, job)
            if broken:
                _prepare(place, kind, job, folder)
    record.began = running_s()
    with _attempting(place, kind, job, folder, stop, record, saved):
        resumed = record.resumed_from is not None
        record.steps = tuple(kind.resume(job, folder) if resumed else kind.steps(job, folder))
        _run_steps(place, kind, job, attempt, folder, stop, record)
        work_is_over()


def _go_on(
    place: Workplace,
    job: Job,
    attempt: int,
    folder: Path,
    stop: Stop,
    record: Record,
    work_is_over: Callable[[], None],
    handed: Handed,
) -> None:
    """What is left of an attempt that another worker has begun."""
    kind = find_kind(job.kind)
    record.steps, record.left = handed.steps, handed.left
    record.done += handed.done
    record.logs += handed.logs
    record.timings |= handed.timings
    record.began, record.resumed_from = handed.began, handed.resumed_from
    log.info(
        "%s goes on, with %d of its %d steps done", job.id, len(record.done), len(record.steps)
    )
    saved = _checkpoints(place, kind, job, folder, record)
    with _attempting(place, kind, job, folder, stop, record, saved):
        _run_steps(place, kind, job, attempt, folder, stop, record)
        work_is_over()


@contextmanager
def _attempting(
    place: Workplace,
    kind: Kind,
    job: Job,
    folder: Path,
    stop: Stop,
    record: Record,
    saved: Checkpoints | None,
) -> Iterator[None]:
    """Around the steps, and what their end brings with it."""
    keeping = nullcontext() if saved is None else saved.kept(stop)
    try:
        with _ending(place, kind, job, folder, stop, record), _timed_run(record), keeping:
            yield
    except Stopped as stopped:
        if stopped.reason == HANDED_OVER and place.handovers is not None:
            place.handovers.write(_handed(job, folder, record))
            record.handed = True
        raise


@contextmanager
def _timed_run(record: Record) -> Iterator[None]:
    try:
        yield
    finally:
        record.timings["run"] = round(running_s() - record.began, 6)


def _handed(job: Job, folder: Path, record: Record) -> Handed:
    return Handed(
        job_id=job.id,
        folder=folder.name,
        steps=record.steps,
        started_at=record.started_at,
        began=record.began,
        left=record.left,
        logs=tuple(record.logs),
        timings=record.timings,
        done=tuple(record.done),
        resumed_from=record.resumed_from,
    )


def _checkpoints(
    place: Workplace, kind: Kind, job: Job, folder: Path, record: Record
) -> Checkpoints | None:
    if job.resume is None:
        return None
    return Checkpoints(place.store, kind, job, folder, record.done, record.logs)


@contextmanager
def _ending(
    place: Workplace, kind: Kind, job: Job, folder: Path, stop: Stop, record: Record
) -> Iterator[None]:
    """Around the steps: what they left is measured and kept."""
    stopped = False
    try:
        try:
            yield
        finally:
            if folder.is_dir() and record.left is None:
                record.harmless = False
                make_harmless(folder)
                record.harmless = True
        with record.timed("measure"):
            record.metrics = {**kind.metrics(job, folder), **measure(job, folder, record.logs)}
    except Stopped:
        stopped = True
        raise
    finally:
        record.provenance = provenance(place, kind, job, folder)
        if record.resumed_from is not None:
            record.provenance["resumed_from"] = record.resumed_from
        if record.harmless and not stopped:
            keep(place, job, folder, stop, record)


def _prepare(place: Workplace, kind: Kind, job: Job, folder: Path) -> None:
    remove(folder)
    folder.mkdir(mode=0o700, parents=True)
    if job.bundle is not None:
        place.bundles.copy(job.bundle, folder)
    kind.prepare(job, folder)


def _run_steps(
    place: Workplace,
    kind: Kind,
    job: Job,
    attempt: int,
    folder: Path,
    stop: Stop,
    record: Record,
) -> None:
    """Those that are not done yet."""
    for step in record.steps[len(record.done) :]:
        if stop.thrown and record.left is None:
            raise Stopped(stop.reason or "")
        if step.log not in record.logs:
            record.logs.append(step.log)
        with record.timed(f"step:{step.name}"):
            outcome = _run_step(place, step, job, attempt, folder, stop, record)
        record.left = outcome.left
        if outcome.left is not None:
            raise Stopped(HANDED_OVER)
        make_harmless(folder, links=False)
        record.tail = log_tail(folder / step.log)
        if outcome.ended_by == "stop":
            raise Stopped(stop.reason or "")
        judge(kind, job, folder, step, outcome, record.tail)
        record.done.append(step.name)


def _run_step(
    place: Workplace,
    step: Step,
    job: Job,
    attempt: int,
    folder: Path,
    stop: Stop,
    record: Record,
) -> Outcome:
    wall_time_s = job.resources.wall_time_s
    if wall_time_s is not None:
        wall_time_s = max(0.0, record.began + wall_time_s - running_s())
    if record.left is not None:
        return place.runtime.take_over(
            record.left, step, job, folder, wall_time_s=wall_time_s, stop=stop
        )
    return place.runtime.run(
        step,
        job,
        folder,
        worker=place.worker,
        attempt=attempt,
        limits=job.resources,
        wall_time_s=wall_time_s,
        stop=stop,
    )
