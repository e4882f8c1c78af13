"""Where the processes of a job live. Runtimes are found through the group `queue_runner.runtimes`."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from queue_runner.model import Job, Resources
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.site import HOST, Site

#: Why a `Stop` is thrown.
CANCELLED = "cancelled"
LOST = "its lease was lost"
DRAINED = "the worker is stopping"
HANDED_OVER = "the worker is being started anew"

#: The group of entry points.
RUNTIMES = "queue_runner.runtimes"


class Stop:
    """A one-way switch that ends a running attempt; its `fileno` becomes readable when it is thrown.

    Thrown by the keeper (cancel, lease lost) or the daemon (drain over). Threads may wait on it with
    `wait`, processes' supervisors by polling the file descriptor together with a pidfd.
    """

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self.reason: str | None = None

    def throw(self, reason: str) -> None:
        with self._lock:
            if self.reason is None:
                self.reason = reason
                if self._fd >= 0:
                    os.eventfd_write(self._fd, 1)

    @property
    def thrown(self) -> bool:
        return self.reason is not None

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


class Stopped(Exception):
    """The attempt was ended from outside; `reason` is what the `Stop` was thrown with."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Left:
    """A step that goes on without its worker.

    handle: the runtime's own name for it; log_start: where in the step's log its output begins.
    """

    handle: str
    log_start: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended. `exit_code` is negative for a signal, as in `subprocess`.

    cpu_s, max_rss_bytes: 0 where nobody looked. ended_by: None when it ended by itself; "wall-time" or "stop"
    when the runtime ended it; "out-of-memory" and "disk-limit" when these limits did. left: it has not ended,
    see `HANDED_OVER`.
    """

    exit_code: int
    wall_s: float
    cpu_s: float
    max_rss_bytes: int
    ended_by: str | None = None
    left: Left | None = None


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls for one warm process, in order: all of one study, function and limits.

    jobs: job id and arguments of each; template: the study's files, or None; folder: where work folders
    are made for calls that write to theirs. held: told, where a call takes long, how many have begun; those
    behind them will not be made.
    """

    step: Step
    function: str
    jobs: Sequence[tuple[str, Mapping[str, Any]]]
    template: Path | None
    folder: Path
    held: Callable[[int], None]


class Called(NamedTuple):
    """How one call ended. returned: JSON, or None; folder: its work folder, None where that is as it was
    made and nothing was printed.
    """

    exit_code: int
    wall_s: float
    started_at: float
    returned: str | None
    folder: Path | None

    @property
    def outcome(self) -> Outcome:
        return Outcome(self.exit_code, self.wall_s, 0.0, 0)


class Calling(ABC):
    """Calls that a warm process was asked for."""

    @abstractmethod
    def follow(self, calls: Calls, stop: Stop) -> Calling | None:
        """Ask the same process for others, with which it goes on at once when it is done with these; None
        where it takes no others. Both are of one study, function and limits.
        """

    @abstractmethod
    def called(self) -> list[Called]:
        """Wait until they have been made; fewer are answered where the process ended with one of them, and
        where `stop` was thrown. The last answer may be that of a call that took its process down.
        """


class Runtime(ABC):
    """Runs steps with limits. Safe to use from several threads at once.

    A plug-in is a callable that takes the worker's scratch folder.
    """

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where attempts' work folders belong: `sweep` removes it when its worker has died."""

    def site(self, job: Job) -> Site:
        """Where the job's programs are, for its kind to look. Raises `JobError` where there is no such
        place.
        """
        return HOST

    def image_names(self, job: Job) -> Sequence[str]:
        """What this host itself calls the image that the job would run in: tags, digests. Empty where
        it runs in none. Raises `JobError` where there is no such image.
        """
        return ()

    def provenance(self, job: Job) -> dict[str, str]:
        """What this runtime adds to how a job was computed."""
        return {}

    @abstractmethod
    def run(
        self,
        step: Step,
        job: Job,
        folder: Path,
        *,
        worker: str,
        attempt: int,
        limits: Resources,
        wall_time_s: float | None,
        stop: Stop,
    ) -> Outcome:
        """Run one step to its end, however it ends; nothing it started is left when this returns.

        worker: the name of the worker; attempt: which one of the job this is, from 1: for those who look
        at what is running.
        wall_time_s: what is left of the job's wall time, or None for no limit. On its passing, or when
        `stop` is thrown, the step gets SIGTERM, then SIGKILL after a grace period.
        Raises `JobError(Reason.MISSING_PROGRAM, ...)` when the program cannot be started.
        """

    #: Whether steps may go on without their worker: `stop` thrown for `HANDED_OVER` leaves them.
    hands_over = False

    def take_over(
        self,
        left: Left,
        step: Step,
        job: Job,
        folder: Path,
        *,
        wall_time_s: float | None,
        stop: Stop,
    ) -> Outcome:
        """As `run`, for a step that a predecessor of this runtime has left."""
        raise NotImplementedError

    def abandon(self, job_id: str) -> None:
        """End what a predecessor has left running of a job that nobody here is to take over."""
        raise NotImplementedError

    def hand_over(self, worker: str, within_s: float) -> None:
        """Let `close` leave everything to the next runtime for a worker of this name, which may come within
        this time; then it is ended and removed.
        """
        raise NotImplementedError

    #: Whether there is an `ask`: for jobs that are much shorter than what surrounds them.
    calls = False

    def ask(self, calls: Calls, job: Job, stop: Stop) -> Calling:
        """Have a process make calls one after another; `called` has to be asked what came of it.

        job: the first of them.
        """
        raise NotImplementedError

    @abstractmethod
    def sweep(self) -> int:
        """End what an earlier worker that died left running on this host; returns how many."""

    @abstractmethod
    def close(self) -> None:
        """End everything this runtime still has running or warm."""
