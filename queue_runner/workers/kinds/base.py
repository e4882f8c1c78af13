"""What a kind of job is to the worker: prepare a folder, name the steps, read the measurements.

A kind knows no broker and no runtime. Kinds are found through the entry points of the group
`queue_runner.kinds`; the name of the entry point is the `kind` of a job. The part of a kind that reads
study files is in `queue_runner.study.kinds`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from queue_runner.model import Job, Scalar
from queue_runner.workers.artifacts import kept_files

#: Set for the steps of an attempt that goes on from a checkpoint.
RESUMED = "QUEUE_RUNNER_RESUMED"


@dataclass(frozen=True, slots=True)
class Step:
    """One process (or one MPI launch) of a job, run in the work folder.

    argv: never a shell line. log: file name, in the work folder, that takes stdout and stderr.
    env: added to a small clean environment. request: where not None, `argv` is a server of ours that
    can do many such steps in one warm process, and this is what to ask of it (see `workers/pycall.py`).
    """

    name: str
    argv: tuple[str, ...]
    log: str
    env: Mapping[str, str] = field(default_factory=dict)
    request: bytes | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A job that is one request to a warm process, and leaves only what that returns.

    step: the server to start, and the name and log that the ordinary way has for it; function and args: as
    that server takes them. alone: whether it is a request also where there are no others like it.
    """

    step: Step
    function: str
    args: Mapping[str, Any]
    alone: bool = True


def is_short(job: Job) -> bool:
    """Whether nothing but its end has to be looked at, as a `call` asks for: no limits, nothing to keep."""
    limits, measured = job.resources, job.measure
    limited = limits.wall_time_s or limits.memory_bytes or limits.disk_bytes
    looked_at = job.keep or measured.get("metrics") or measured.get("log")
    return not (limited or looked_at or job.image)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a step failed: a `Reason` (or a plug-in's own word), and a text that quotes the evidence."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What of a work folder another attempt needs to go on: names of files, with forward slashes.

    label: how far it is, for people; a checkpoint with the label of the one before is not kept again.
    """

    label: str
    files: tuple[str, ...]


class Kind(ABC):
    """Stateless; one instance serves many jobs, from several threads at once."""

    @abstractmethod
    def prepare(self, job: Job, folder: Path) -> None:
        """Make `folder`, which already holds the job's bundle, ready for the steps.

        Raises `JobError(Reason.PREPARE, ...)` with a text that names file and entry.
        """

    @abstractmethod
    def steps(self, job: Job, folder: Path) -> Sequence[Step]:
        """The steps in order; the job fails at the first that fails.

        Raises `JobError(Reason.MISSING_PROGRAM, ...)` for a program that is not installed.
        """

    def call(self, job: Job) -> Call | None:
        """For a job that may be done together with others in one warm process; None for all others.

        Such a job has no wall time, no limit of memory, and nothing to keep or to read from its folder.
        """
        return None

    def returned(self, job: Job, text: str) -> dict[str, Scalar]:
        """Metrics from what a `call` returned, as JSON. Raises `JobError(Reason.METRICS, ...)`."""
        return {}

    def diagnose(self, job: Job, folder: Path, step: Step, log_tail: str) -> Diagnosis | None:
        """A better reason than `exit-code` or `signal` for a step that failed, from its log.

        None: the runner says itself how the step ended.
        """
        return None

    def verify(self, job: Job, folder: Path, step: Step, log_tail: str) -> Diagnosis | None:
        """Why a step is to count as failed although its exit code was 0; None where it is not."""
        return None

    def metrics(self, job: Job, folder: Path) -> dict[str, Scalar]:
        """What this kind can measure by itself, as `job.measure` asks.

        `metrics.json` and regular expressions on logs are read for every kind by `workers/measure.py`.
        Raises `JobError(Reason.METRICS, ...)`.
        """
        return {}

    def checkpoint(self, job: Job, folder: Path, done: Collection[str]) -> Checkpoint | None:
        """What an attempt could go on from, while a step is running or after one; None: nothing yet.

        done: names of the steps that have ended well. Only what is complete counts: a file that is being
        written is no state. Here: the files that the study names.
        """
        patterns = job.resume.keep if job.resume is not None else ()
        found = kept_files(folder, patterns)
        if not found:
            return None
        seconds, rest = divmod(max(path.lstat().st_mtime_ns for path in found), 1_000_000_000)
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
        names = tuple(path.relative_to(folder).as_posix() for path in found)
        return Checkpoint(f"files of {at}.{rest:09}Z", names)

    def resume(self, job: Job, folder: Path) -> Sequence[Step]:
        """The steps of an attempt that goes on, instead of `steps`.

        `folder` was made ready by `prepare`, and has the files of the checkpoint. Here: all steps, with
        `QUEUE_RUNNER_RESUMED` in their environment.
        """
        resumed = {RESUMED: "1"}
        return [replace(step, env={**step.env, **resumed}) for step in self.steps(job, folder)]

    def provenance(self, job: Job, folder: Path) -> dict[str, str]:
        """Versions of what ran: solver, MPI flavour, decomposition."""
        return {}
