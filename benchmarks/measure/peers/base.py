"""A task queue as the benchmark sees it: submit jobs, wait until every result is known."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from measure.contender import Contender, Effort, Figures, lone_jobs

#: Jobs that a peer runs before anything is measured: connections are open then, modules imported.
_WARM_UP = {"container": 2, "sweep": 2, "mpi": 1}
_FIRST_TRY = {"container": 6}
#: Workloads with as many jobs as are worth a run, whatever time they take.
_COUNTS = {"sweep": 64, "mpi": 24}
#: A trial that takes this part of the time fills it.
_ENOUGH = 0.7


class Peer(Contender):
    """Submits from this process, and has worker processes of its own."""

    #: Whether submitting is something apart from running.
    sends: ClassVar[bool] = True

    @abstractmethod
    def submit(self, task: str, count: int) -> None:
        """Send `count` jobs, as one would: `noop(i)` for i from 0, `true()`, or others that it knows."""

    @abstractmethod
    def results(self) -> Sequence[object]:
        """Wait for all that were submitted last; what each returned, in any order."""

    def prepare(self, task: str, count: int) -> None:
        """What is not timed."""

    def measure(self, workload: str, effort: Effort) -> Figures:
        if workload == "latency":
            return self._latency("noop", effort)
        self._run(workload, _WARM_UP.get(workload, 20))
        count = effort.count or _COUNTS.get(workload) or self._fitting(workload, effort)
        submit_s, total_s = self._run(workload, count)
        figures = {"count": count, "per_s": count / total_s}
        return figures | {"submit_per_s": count / submit_s} if self.sends else figures

    def _fitting(self, task: str, effort: Effort) -> int:
        """How many jobs take about as long as wanted."""
        count = _FIRST_TRY.get(task, 100)
        while True:
            total_s = self._run(task, count)[1]
            if total_s > _ENOUGH * effort.seconds or count >= effort.most:
                return count
            # never by much: what a run costs whatever its size is most of a short one
            count = min(effort.most, math.ceil(count * min(4.0, effort.seconds / total_s)))

    def _run(self, task: str, count: int) -> tuple[float, float]:
        """Seconds until all were sent, and until every result was known."""
        self.prepare(task, count)
        began = time.perf_counter()
        self.submit(task, count)
        sent = time.perf_counter()
        got = self.results()
        ended = time.perf_counter()
        _check(task, count, got)
        return sent - began, ended - began

    def _latency(self, task: str, effort: Effort) -> Figures:
        self._run(task, 20)
        return lone_jobs(lambda: self._run(task, 1)[1], effort)


def _check(task: str, count: int, got: Sequence[object]) -> None:
    """Raises `RuntimeError` unless every job came back once, with what it was to return."""
    if task == "noop":
        numbers = sorted(each["y"] for each in got if isinstance(each, dict))
        right = numbers == list(range(count)) and len(got) == count
    else:
        right = list(got) == [0] * count
    if not right:
        raise RuntimeError(f"{task}: {len(got)} results for {count} jobs, or wrong ones")
