"""One attempt at one job, from an empty folder to a result. Knows no broker."""

from __future__ import annotations

import errno
import logging
import os
import platform
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from queue_runner import plugins
from queue_runner.errors import (
    DiskFull,
    EngineUnavailable,
    JobError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    TooBig,
    UnknownScheme,
)
from queue_runner.model import Artifact, Failure, Job, Reason, Result, Scalar, State
from queue_runner.store import Store
from queue_runner.workers.artifacts import keep_files, log_tail
from queue_runner.workers.bundles import Bundles
from queue_runner.workers.kinds.base import Kind, Step
from queue_runner.workers.measure import measure
from queue_runner.workers.runtimes.base import Outcome, Runtime, Stop
from queue_runner.workers.site import at

KINDS = "queue_runner.kinds"
_TRACE_LINES = 40
#: With less than this left, a disk is full: no block can be written any more.
_FULL_BYTES = 64 * 1024
#: Set in our images: tag and the hash of all that it was built from.
IMAGE_VARIABLE = "QUEUE_RUNNER_IMAGE"
#: Seconds between tries to keep what a finished job wrote, while its store is away.
_STORE_RETRY_S = 5.0

log = logging.getLogger("queue_runner.worker")


class Stopped(Exception):
    """The attempt was ended from outside; `reason` is what the `Stop` was thrown with."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Workplace:
    """What all attempts of a worker share.

    folder: holds a folder for each running attempt; kept: where finished ones go that are to stay
    (`keep`: "none", "failed" or "all").
    """

    worker: str
    runtime: Runtime
    runtime_name: str
    store: Store
    bundles: Bundles
    folder: Path
    kept: Path
    keep: str


@dataclass(slots=True)
class _Record:
    """What is known of an attempt so far."""

    metrics: dict[str, Scalar] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    logs: list[str] = field(default_factory=list)
    tail: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.timings[name] = round(time.monotonic() - started, 6)


def attempt_job(place: Workplace, job: Job, attempt: int, stop: Stop) -> Result:
    """Run a job; the result says final, which the caller may take back where a retry follows.

    Raises `Stopped`; `StoreUnavailable`, `StoreRefused` or `DiskFull` when it could not begin for want of
    its bundle or of space; `EngineUnavailable` when its containers went with their engine. Once it has
    run, it waits for its store instead.
    """
    started_at, record, failure = time.time(), _Record(), None
    folder = place.folder / f"{job.id}.{attempt}"
    try:
        with at(place.runtime.site(job)):
            _run(place, job, attempt, folder, stop, record)
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
        _leave(place, folder, job, failed=failure is not None)
    return _result(place, job, attempt, started_at, record, failure)


def _run(
    place: Workplace, job: Job, attempt: int, folder: Path, stop: Stop, record: _Record
) -> None:
    kind = find_kind(job.kind)
    with record.timed("prepare"):
        _prepare(place, kind, job, folder)
    try:
        steps = kind.steps(job, folder)
        with record.timed("run"):
            _run_steps(place, kind, job, attempt, folder, steps, stop, record)
        with record.timed("measure"):
            record.metrics = {**kind.metrics(job, folder), **measure(job, folder, record.logs)}
    finally:
        record.provenance = _provenance(place, kind, job, folder)
        if not stop.thrown:
            _keep(place, job, folder, stop, record)


def _prepare(place: Workplace, kind: Kind, job: Job, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
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
    steps: Sequence[Step],
    stop: Stop,
    record: _Record,
) -> None:
    wall_time_s = job.resources.wall_time_s
    end = None if wall_time_s is None else time.monotonic() + wall_time_s
    for step in steps:
        if stop.thrown:
            raise Stopped(stop.reason or "")
        if step.log not in record.logs:
            record.logs.append(step.log)
        with record.timed(f"step:{step.name}"):
            outcome = place.runtime.run(
                step,
                job,
                folder,
                worker=place.worker,
                attempt=attempt,
                limits=job.resources,
                wall_time_s=None if end is None else max(0.0, end - time.monotonic()),
                stop=stop,
            )
        record.tail = log_tail(folder / step.log)
        if outcome.ended_by == "stop":
            raise Stopped(stop.reason or "")
        _judge(kind, job, folder, step, outcome, record.tail)


def _judge(kind: Kind, job: Job, folder: Path, step: Step, outcome: Outcome, tail: str) -> None:
    """Raises `JobError` for a step that failed, with the best reason there is."""
    limit = _limit_reached(job, outcome) or _disk_full(folder, outcome)
    if limit is not None:
        raise JobError(*limit, step=step.name, exit_code=outcome.exit_code)
    if outcome.exit_code == 0:
        diagnosis = kind.verify(job, folder, step, tail)
    else:
        diagnosis = kind.diagnose(job, folder, step, tail)
    if diagnosis is not None:
        raise JobError(
            diagnosis.reason, diagnosis.message, step=step.name, exit_code=outcome.exit_code
        )
    if outcome.exit_code != 0:
        raise JobError(*_how_it_ended(step, outcome), step=step.name, exit_code=outcome.exit_code)


def _limit_reached(job: Job, outcome: Outcome) -> tuple[str, str] | None:
    limits = job.resources
    if outcome.ended_by == "wall-time":
        return Reason.WALL_TIME, f"ended after its wall time of {limits.wall_time_s:g} s"
    if outcome.ended_by == "out-of-memory":
        mebibytes = (limits.memory_bytes or 0) / 1024**2
        return Reason.OUT_OF_MEMORY, f"ended for using more than its {mebibytes:.0f} MiB of memory"
    return None


def _disk_full(folder: Path, outcome: Outcome) -> tuple[str, str] | None:
    if outcome.exit_code == 0 or shutil.disk_usage(folder).free > _FULL_BYTES:
        return None
    return (
        Reason.DISK_FULL,
        "failed with no space left on the disk of its work folder; make room on that worker, or have"
        " the job write less",
    )


def _how_it_ended(step: Step, outcome: Outcome) -> tuple[str, str]:
    if outcome.exit_code == -signal.SIGFPE:
        return Reason.DIVERGED, f"{step.name} was ended by SIGFPE, a floating point exception"
    if outcome.exit_code < 0:
        return Reason.SIGNAL, f"{step.name} was ended by {_signal_name(-outcome.exit_code)}"
    if outcome.exit_code > 128 and _signal_name(outcome.exit_code - 128).startswith("SIG"):
        return (
            Reason.EXIT_CODE,
            f"{step.name} exited with code {outcome.exit_code}"
            f" ({_signal_name(outcome.exit_code - 128)} in a process that it started)",
        )
    return Reason.EXIT_CODE, f"{step.name} exited with code {outcome.exit_code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _keep(place: Workplace, job: Job, folder: Path, stop: Stop, record: _Record) -> None:
    failed = sys.exc_info()[1]
    try:
        with record.timed("keep"):
            _keep_when_store_is_there(place, job, folder, stop, record)
    except JobError as error:
        if failed is None:
            raise
        # why the job failed says more than that its files cannot be kept
        log.warning("%s failed, and what it wrote is not kept: %s", job.id, error)


def _own_logs(folder: Path, known: Sequence[str]) -> list[str]:
    """Logs that a step wrote by itself, as OpenFOAM's Allrun does."""
    found = (path for path in folder.glob("log.*") if path.is_file() and not path.is_symlink())
    return sorted(path.name for path in found if path.name not in known)


def _keep_when_store_is_there(
    place: Workplace, job: Job, folder: Path, stop: Stop, record: _Record
) -> None:
    waiting = select.poll()
    waiting.register(stop, select.POLLIN)
    while folder.is_dir():
        try:
            logs = [*record.logs, *_own_logs(folder, record.logs)]
            record.artifacts = keep_files(place.store, folder, logs, job.keep)
            return
        except (TooBig, StoreFull) as error:
            text = f"what the job wrote cannot be kept: {error}"
            raise JobError(Reason.STORE, text) from error
        except (StoreUnavailable, StoreRefused) as error:
            # what took days to compute is worth waiting for
            log.warning("%s is finished and waits for its store: %s", job.id, error)
        if waiting.poll(_STORE_RETRY_S * 1000):
            raise Stopped(stop.reason or "")


def _leave(place: Workplace, folder: Path, job: Job, *, failed: bool) -> None:
    if place.keep == "all" or (place.keep == "failed" and failed):
        place.kept.mkdir(parents=True, exist_ok=True)
        target = place.kept / folder.name
        shutil.rmtree(target, ignore_errors=True)
        if folder.is_dir():
            folder.rename(target)
        return
    shutil.rmtree(folder, ignore_errors=True)


def find_kind(name: str) -> Kind:
    """The kind of that name. Raises `JobError`."""
    try:
        return _kind(name)
    except UnknownScheme as error:
        raise JobError(Reason.BROKEN_KIND, f"on this worker, {error}") from error


@cache
def _kind(name: str) -> Kind:
    kind: Kind = plugins.load(KINDS, name)()
    return kind


# -- result ------------------------------------------------------------------------------------------


def _result(
    place: Workplace,
    job: Job,
    attempt: int,
    started_at: float,
    record: _Record,
    failure: Failure | None,
) -> Result:
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


def _provenance(place: Workplace, kind: Kind, job: Job, folder: Path) -> dict[str, str]:
    facts = {**_host(), "runtime": place.runtime_name, "ranks": str(job.resources.ranks)}
    facts |= place.runtime.provenance(job)
    if job.bundle is not None:
        facts["bundle"] = job.bundle
    return {**facts, **kind.provenance(job, folder)}


@cache
def _host() -> dict[str, str]:
    return {
        "host": platform.node(),
        "cpu": _cpu_model(),
        "kernel": platform.release(),
        "queue-runner": version(),
        **({"image": image} if (image := os.environ.get(IMAGE_VARIABLE)) else {}),
    }


def _cpu_model() -> str:
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


@cache
def version() -> str:
    from importlib.metadata import version as installed

    return installed("queue-runner")
