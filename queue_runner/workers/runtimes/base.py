"""Where the processes of a job live. Runtimes are found through the group `queue_runner.runtimes`."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from queue_runner.model import Job, Resources
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.site import HOST, Site


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended. `exit_code` is negative for a signal, as in `subprocess`.

    ended_by: None when it ended by itself; "wall-time" or "stop" when the runtime ended it;
    "out-of-memory" when the limit did.
    """

    exit_code: int
    wall_s: float
    cpu_s: float
    max_rss_bytes: int
    ended_by: str | None = None


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

    @abstractmethod
    def sweep(self) -> int:
        """End what an earlier worker that died left running on this host; returns how many."""

    @abstractmethod
    def close(self) -> None:
        """End everything this runtime still has running or warm."""
