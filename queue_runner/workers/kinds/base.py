"""What a kind of job is to the worker: prepare a folder, name the steps, read the measurements.

A kind knows no broker and no runtime. Kinds are found through the entry points of the group
`queue_runner.kinds`; the name of the entry point is the `kind` of a job. The part of a kind that reads
study files is in `queue_runner.study.kinds`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from queue_runner.model import Job, Scalar


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
class Diagnosis:
    """Why a step failed: a `Reason` (or a plug-in's own word), and a text that quotes the evidence."""

    reason: str
    message: str


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

    def provenance(self, job: Job, folder: Path) -> dict[str, str]:
        """Versions of what ran: solver, MPI flavour, decomposition."""
        return {}
