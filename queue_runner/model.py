"""Job, Result, Event and the rest of what travels: plain frozen values that know no broker, no runtime.

`wire.py` turns them into bytes and back. Times are unix seconds by the clock of the host that took
them, for people to read; no decision is ever made by comparing the clocks of two hosts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

T = TypeVar("T")

#: What a parameter, and a measured value, may be.
Scalar = int | float | str | bool | None


class State(StrEnum):
    """How an attempt ended. A job that has no final result yet is *waiting* or *running*."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """Why an attempt failed. The words users write under `retries: on`."""

    PREPARE = "prepare"  # the work folder could not be made: a missing dictionary entry, no bundle
    MISSING_PROGRAM = "missing-program"
    EXIT_CODE = "exit-code"
    SIGNAL = "signal"
    DIVERGED = "diverged"  # the solver said so: floating point exception, NaN, time step collapsed
    WALL_TIME = "wall-time"
    OUT_OF_MEMORY = "out-of-memory"
    DISK_LIMIT = "disk-limit"  # it wrote more than its `resources: disk`
    DISK_FULL = "disk-full"  # it failed, and the disk of its work folder is full
    METRICS = "metrics"  # it ran, but what it was to measure is not there or not readable
    WORKER_LOST = "worker-lost"  # so many workers died with it that it is suspected to kill them
    STORE = "store"  # bundle or artifacts could not be fetched or kept
    IMAGE = "image"  # the worker has no such image, or another one under that tag
    REFUSED = "refused"  # it asks for more than this worker's own rules accept
    BROKEN_KIND = "broken-kind"  # a bug in a kind or runtime plug-in; the log tail has its trace


@dataclass(frozen=True, slots=True)
class Resources:
    """What one job takes of a worker. `cores` is its size on the broker."""

    cores: int = 1
    ranks: int = 1
    memory_bytes: int | None = None
    wall_time_s: float | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`retries` further attempts after a failure for one of the reasons in `on` (empty: any)."""

    retries: int = 0
    on: tuple[str, ...] = ()
    first_s: float = 1.0
    factor: float = 2.0
    max_s: float = 300.0

    def delay_s(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt` (from 1) failed."""
        return float(min(self.max_s, self.first_s * self.factor ** min(attempt - 1, 64)))

    def wants(self, attempt: int, reason: str) -> bool:
        """Whether attempt number `attempt`, failed for `reason`, is to be followed by another."""
        if reason == Reason.REFUSED:
            return False
        return attempt <= self.retries and (not self.on or reason in self.on)


#: Seconds between two checkpoints.
CHECKPOINT_S = 600.0


@dataclass(frozen=True, slots=True)
class Resume:
    """That an attempt goes on where the one before was cut off.

    every_s: seconds between two checkpoints; keep: globs of the files that one is made of, for kinds that
    cannot tell.
    """

    every_s: float = CHECKPOINT_S
    keep: tuple[str, ...] = ()


def like(message: T, own: Mapping[str, Any]) -> T:
    """The same message but for its `own` fields; of a dataclass whose fields are in its `__dict__`.

    A frozen dataclass sets its fields one by one, which takes longer than to make what is in them.
    """
    made = object.__new__(type(message))
    made.__dict__.update(message.__dict__, **own)
    return made


@dataclass(frozen=True)
class Job:
    """One point to run: everything a worker needs, by value or by content hash.

    spec: what the kind makes of it, rendered for this point (no expressions left in it).
    bundle: SHA-256 of the template folder in the store, or None.
    measure: what to read from the finished work folder; see `workers/measure.py`.
    keep: globs, relative to the work folder, of files to keep as artifacts.
    image: what its containers are made of, `name:tag@sha256:...`; None for the worker's own choice.
    container: `network`, `shm` (bytes) and `cpuset`, where they are not the default.
    worker: the name of the only worker that is to run it, or None for any.
    resume: None where each attempt begins anew.
    held_by: the name of a worker that is being started anew, and runs it already; others leave it to that
    one for the `held_s` seconds that are left.
    """

    id: str
    study: str
    index: int
    kind: str
    point: Mapping[str, Scalar]
    spec: Mapping[str, Any]
    bundle: str | None = None
    resources: Resources = Resources()
    retry: RetryPolicy = RetryPolicy()
    measure: Mapping[str, Any] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    queue: str = "default"
    priority: int = 0
    image: str | None = None
    container: Mapping[str, Any] = field(default_factory=dict)
    worker: str | None = None
    resume: Resume | None = None
    held_by: str | None = None
    held_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """`reason` is a `Reason`, or a plug-in's own word; `message` is for people and says what to do."""

    reason: str
    message: str
    step: str | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    name: str  # path inside the work folder, with forward slashes
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Result:
    """What one attempt came to. `final`: no further attempt follows.

    timings: seconds by name: `prepare`, `run`, `measure`, `keep`, and `step:NAME` for each step.
    """

    job_id: str
    study: str
    index: int
    attempt: int
    state: State
    final: bool
    point: Mapping[str, Scalar]
    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    failure: Failure | None = None
    artifacts: tuple[Artifact, ...] = ()
    log_tail: str = ""
    started_at: float = 0.0
    finished_at: float = 0.0
    timings: Mapping[str, float] = field(default_factory=dict)
    worker: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """A study as the collector knows it: enough to make any of its jobs again.

    spec: the validated study in its JSON form; parameters: names in column order, derived ones last.
    open: its points come later, in `PointsAdded`; `total` is 0 then.
    """

    id: str
    name: str
    kind: str
    total: int
    parameters: tuple[str, ...]
    spec: Mapping[str, Any]
    bundle: str | None
    queue: str
    submitted_at: float
    open: bool = False


@dataclass(frozen=True, slots=True)
class JobsSubmitted:
    """The jobs with an index below `upto` have been published, and confirmed."""

    study: str
    upto: int


@dataclass(frozen=True, slots=True)
class PointsAdded:
    """Jobs of an open study are published with this: `points`, the first of which is number `first`."""

    study: str
    first: int
    points: tuple[Mapping[str, Scalar], ...]


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Cancel these jobs, or the whole study where `jobs` is empty."""

    study: str
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RetryRequest:
    """These jobs (all failed and cancelled ones where empty) are about to be published again."""

    study: str
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunningJob:
    job_id: str
    study: str
    attempt: int
    started_at: float


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Broadcast by each worker every few seconds, and as it starts, drains and stops."""

    worker: str
    host: str
    at: float
    state: str  # "starting", "working", "draining", "stopped"
    queues: tuple[str, ...]
    cores: int
    cores_free: int
    running: tuple[RunningJob, ...] = ()
    version: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Broadcast by the collector: stop these jobs and do not start them; all of the study if empty.

    `lifted` takes an earlier cancel back, when the jobs are sent again.
    """

    study: str
    jobs: tuple[str, ...] = ()
    lifted: bool = False


#: An Event is what goes to everyone, fire and forget; an inbox item goes to the collector, durably.
Event = Heartbeat | Cancel
InboxItem = Result | StudyRecord | JobsSubmitted | PointsAdded | CancelRequest | RetryRequest

#: Priorities of jobs go from 0 to this, as in the broker contract.
MAX_PRIORITY = 9

#: The collector's queue, and the topics of broadcasts.
INBOX_QUEUE = "results"
TOPIC_WORKERS = "workers"
TOPIC_CONTROL = "control"


def job_queue(name: str) -> str:
    """The broker queue behind the queue name a user gives."""
    return f"jobs.{name}"


@dataclass(frozen=True, slots=True)
class StudyStatus:
    """Counts of a study's jobs; they add up to `total`. open: there may be more of them later."""

    id: str
    name: str
    kind: str
    total: int
    submitted: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    submitted_at: float
    last_result_at: float | None
    open: bool = False

    @property
    def finished(self) -> int:
        return self.succeeded + self.failed + self.cancelled

    @property
    def done(self) -> bool:
        return self.finished >= self.total


@dataclass(frozen=True, slots=True)
class MissingJob:
    """A job that was submitted and has no final result; `attempts`: the highest that was reported of it."""

    index: int
    attempts: int


@dataclass(frozen=True, slots=True)
class AddedPoint:
    """A point of an open study, and the number of its job."""

    index: int
    point: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Allotment:
    """Numbers of jobs from `first` on that nobody else gets; `arrivals`: of results so far, a cursor."""

    first: int
    arrivals: int


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What the collector last heard of a worker; `age_s` seconds ago by the collector's own clock."""

    worker: str
    host: str
    state: str
    queues: tuple[str, ...]
    cores: int
    cores_free: int
    running: tuple[RunningJob, ...]
    version: str
    age_s: float
