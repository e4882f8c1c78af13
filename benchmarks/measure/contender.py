"""What is measured: one class for each, run in a process of its own by `measure.driver`.

Those that run under the peers' virtual environment import nothing of queue-runner.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from measure.work import work_folder

#: What a measurement says: numbers by name, such as `per_s`.
Figures = dict[str, float]
_STOP_S = 20.0
#: Jobs sent one at a time: as many as their time allows, but so many that there is a distribution.
_LATENCY_JOBS = range(20, 1000)
_LATENCY_TIMES = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contender works. servers: URLs by name. processes: how many workers there are to be."""

    folder: Path
    processes: int
    servers: Mapping[str, str]
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """For the folders that jobs work in."""
        return work_folder(self.folder)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long one measurement is to take, and of how many jobs; count: None to find out."""

    seconds: float
    count: int | None = None
    most: int = 1_000_000


class Contender(ABC):
    """`start`, any number of `measure`, `stop`."""

    #: Distributions whose versions belong to its figures.
    packages: ClassVar[Sequence[str]] = ()

    def __init__(self, place: Place) -> None:
        self.place = place
        self._spawned: list[subprocess.Popen[bytes]] = []

    @abstractmethod
    def measure(self, workload: str, effort: Effort) -> Figures:
        """Measure once; the figure `count` says of how many jobs."""

    def start(self) -> None:  # noqa: B027 - many have nothing to start
        """Get ready: everything that takes its time only once."""

    def stop(self) -> None:
        """End all that `start` began."""
        for process in reversed(self._spawned):
            end(process)
        self._spawned.clear()

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in self.packages}

    def spawn(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """A process that `stop` ends; what it prints goes where the driver's own output goes."""
        process = subprocess.Popen(
            command, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL
        )
        self._spawned.append(process)
        return process

    def check(self) -> None:
        """Raises `RuntimeError` where a process has ended that should be there."""
        for process in self._spawned:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args!r} ended with {process.returncode}")


def lone_jobs(one: Callable[[], float], effort: Effort) -> Figures:
    """Milliseconds of jobs one at a time; `one` does one, and returns its seconds."""
    end = time.perf_counter() + _LATENCY_TIMES * effort.seconds
    times: list[float] = []
    while len(times) < _LATENCY_JOBS.stop and (
        len(times) < _LATENCY_JOBS.start or time.perf_counter() < end
    ):
        times.append(1000 * one())
    times.sort()
    count = len(times)
    return {
        "count": count,
        "p50_ms": times[count // 2],
        "p99_ms": times[min(count - 1, count * 99 // 100)],
    }


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait()
