"""A million jobs: whether the rate, the memory and the answers stay what they were.

They are those of *noop*, unless the option `task` says `true`.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import yaml

from measure.contender import Effort, Figures
from measure.cpu import CpuTime
from measure.peers.queue_runner import PROGRAM, QueueRunnerPeer
from queue_runner.client.client import StudyHandle
from queue_runner.errors import NotFound
from queue_runner.model import State, StudyStatus

_COUNT = 1_000_000
_LOOK_S = 0.2
#: Nothing for so long: it is not slow, it has stopped.
_QUIET_S = 120.0
_ASKED = 11
_PAGE = 1000
#: Which parts of all jobs are the start and the end. The first ones still pay for what is warmed up.
_START, _END = (0.05, 0.15), (0.85, 0.95)


class Scale(QueueRunnerPeer):
    """The client is a process, too, so that its memory is its own."""

    def measure(self, workload: str, effort: Effort) -> Figures:
        count = effort.count or int(self.place.options.get("jobs", _COUNT))
        task = self.place.options.get("task", "noop")
        self._run(task, 20)
        peaks: dict[str, float] = {}
        cpu = CpuTime()
        began = time.perf_counter()
        client = self._submit(task, count)
        curve = [(0.0, 0)]
        name = f"{task}-{count}"
        submitted_s = 0.0
        for status in self._followed(name, client):
            self._note_memory(peaks)
            cpu.look()
            seconds = time.perf_counter() - began
            if not submitted_s and client.poll() is not None:
                submitted_s = seconds
            curve.append((seconds, status.finished if status else 0))
        if client.wait():
            raise RuntimeError(f"queue-runner submit ended with {client.returncode}")
        self._spawned.remove(client)
        handle = self.client.handle(name)
        _check(handle, count, task)
        return {
            "count": count,
            "per_s": count / curve[-1][0],
            "submit_per_s": count / (submitted_s or curve[-1][0]),
            "start_per_s": _rate(curve, *_START),
            "end_per_s": _rate(curve, *_END),
            **{f"{name}_mb": peak for name, peak in peaks.items()},
            **{f"{name}_cpu_us": each for name, each in cpu.us_per_job(count).items()},
            "status_ms": _asked(handle.status),
            "page_ms": max(_asked(lambda at=at: self._page(handle, at)) for at in _places(count)),  # type: ignore[misc]
        }

    def _submit(self, task: str, count: int) -> subprocess.Popen[bytes]:
        study = self.place.folder / f"{task}-{count}.yaml"
        fields = self.fields(task, count)
        if task == "noop":
            fields["python"]["files"] = "tasks"
        study.write_text(yaml.safe_dump({"study": study.stem, **fields}))
        return self.spawn(PROGRAM, "submit", str(study))

    def _followed(self, name: str, client: subprocess.Popen[bytes]) -> Iterator[StudyStatus | None]:
        """Looks, until it is done."""
        last, changed = -1, time.monotonic()
        while True:
            try:
                status = self.client.handle(name).status()
            except NotFound:
                status = None
            yield status
            finished = status.finished if status else 0
            if status is not None and status.done:
                return
            if finished != last:
                last, changed = finished, time.monotonic()
            elif time.monotonic() - changed > _QUIET_S:
                raise TimeoutError(f"{finished} jobs are done, and no more for {_QUIET_S:g} s")
            if client.poll():
                raise RuntimeError(f"queue-runner submit ended with {client.returncode}")
            time.sleep(_LOOK_S)

    def _note_memory(self, peaks: dict[str, float]) -> None:
        for process in self._spawned:
            if process.poll() is None and (size := _peak_mb(process.pid)):
                assert isinstance(process.args, tuple)
                command = str(process.args[1])
                peaks[command] = max(peaks.get(command, 0.0), size)

    def _page(self, handle: StudyHandle, after: int) -> None:
        found = self.client.records.results(handle.id, after=after, limit=_PAGE)
        if not found:
            raise RuntimeError(f"no results after {after}")


def _places(count: int) -> tuple[int, int, int]:
    """Where pages are asked for: the first, one in the middle, the last."""
    return -1, count // 2, max(-1, count - _PAGE - 1)


def _check(handle: StudyHandle, count: int, task: str) -> None:
    """Every job once, in order, with its own result."""
    expected = 0
    for result in handle.results():
        metrics = {"y": expected} if task == "noop" else {}
        right = result.index == expected and result.metrics == metrics
        if not right or result.state is not State.SUCCEEDED:
            raise RuntimeError(
                f"{result.job_id} is where {expected} should be, or has another value"
            )
        expected += 1
    if expected != count:
        raise RuntimeError(f"{expected} results for {count} jobs")


def _rate(curve: list[tuple[float, int]], first: float, last: float) -> float:
    """Jobs per second between two parts of all jobs, by the looks nearest to them."""
    total = curve[-1][1]
    begin = next(point for point in curve if point[1] >= first * total)
    end = next(point for point in curve if point[1] >= last * total)
    if end[0] == begin[0]:
        raise RuntimeError(f"{total} jobs are too few to see a rate; ask for more with --jobs")
    return (end[1] - begin[1]) / (end[0] - begin[0])


def _asked(question: Callable[[], object]) -> float:
    """Milliseconds until it is answered, in the middle."""
    times = []
    for _ in range(_ASKED):
        began = time.perf_counter()
        question()
        times.append(1000 * (time.perf_counter() - began))
    return median(times)


def _peak_mb(pid: int) -> float:
    """The most it ever had, without its children: a worker's warm processes are the jobs'."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) * 1024 / 1e6 if found else 0.0
