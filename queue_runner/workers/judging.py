"""Whether a step that has ended was well, and the best reason there is where it was not."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from queue_runner.errors import JobError
from queue_runner.model import Job, Reason
from queue_runner.workers.disk import any_more
from queue_runner.workers.kinds.base import Kind, Step
from queue_runner.workers.runtimes.base import Outcome

#: With less than this left, a disk is full: no block can be written any more.
_FULL_BYTES = 64 * 1024


def judge(kind: Kind, job: Job, folder: Path, step: Step, outcome: Outcome, tail: str) -> None:
    """Raises `JobError` for a step that failed, with the best reason there is."""
    limit = _limit_reached(job, outcome, folder) or _disk_full(folder, outcome)
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


def _limit_reached(job: Job, outcome: Outcome, folder: Path) -> tuple[str, str] | None:
    limits = job.resources
    if outcome.ended_by == "wall-time":
        return Reason.WALL_TIME, f"ended after its wall time of {limits.wall_time_s:g} s"
    if outcome.ended_by == "out-of-memory":
        mebibytes = (limits.memory_bytes or 0) / 1024**2
        return Reason.OUT_OF_MEMORY, f"ended for using more than its {mebibytes:.0f} MiB of memory"
    most = limits.disk_bytes
    if outcome.ended_by == "disk-limit" or (most is not None and any_more([folder], most)):
        return Reason.DISK_LIMIT, f"wrote more than its {(most or 0) / 1024**2:.0f} MiB of disk"
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
