"""Jobs one at a time, and where each was when."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from measure.contender import Effort, Figures, Place
from measure.cpu import CpuTime
from measure.legs import BESIDE, OPEN_BESIDE, OPEN_WAY, WAY, is_over, medians_ms
from measure.marks import Marks, read
from measure.peers.queue_runner import QueueRunnerPeer
from measure.traced import trace_client, trace_publishing
from queue_runner.model import Result

#: `noop`, which tells when it was called.
_TASK = """\
import time


def noop(x):
    return {"y": x, "at": time.monotonic()}
"""
_WARM_UP = 20
_RESULT_S = 60.0
_LOOK_S = 0.01


class Alone(QueueRunnerPeer):
    """Its figures are milliseconds: medians by what happens in them (`legs`), and of CPU time by process.

    open: the jobs are points of one study that stays open, and not studies of one point each.
    """

    def __init__(self, place: Place, *, open: bool) -> None:
        super().__init__(place)
        self._open = open
        self._legs = (OPEN_WAY, OPEN_BESIDE) if open else (WAY, BESIDE)

    def start(self) -> None:
        self._path = self.place.folder / "marks"
        self._marks = Marks(self._path)
        trace_client(self._marks)
        super().start()
        trace_publishing(self._marks, self.client.broker)

    def run(self, daemon: str, *arguments: str) -> None:
        program = (sys.executable, "-m", "measure.traced", str(self._path), "queue-runner", daemon)
        path = {"PYTHONPATH": str(Path(__file__).parents[1])}
        self.spawn(*program, *arguments, "--log-level", "warning", env=path)

    def fields(self, task: str, count: int) -> Mapping[str, Any]:
        template = self.place.folder / "traced"
        if not template.exists():
            template.mkdir()
            (template / "tasks.py").write_text(_TASK)
        function = {"files": str(template), "call": "tasks:noop"}
        points: Mapping[str, Any] = {"open": ["x"]} if self._open else {"parameters": {"x": [0]}}
        return {"kind": "python", "python": function, **points}

    def measure(self, workload: str, effort: Effort) -> Figures:
        one = self._point() if self._open else self._one
        for _ in range(_WARM_UP):
            one()
        before = sum(1 for _ in read(self._path))
        count = effort.count or 1
        cpu, client_s = CpuTime(), time.process_time()
        for _ in range(count):
            one()
        client_s = time.process_time() - client_s
        self._await_the_rest()
        cpu.look()
        took = {"client": 1e6 * client_s / count, **cpu.us_per_job(count)}
        took["all"] = sum(each for name, each in took.items() if name != "all")
        return {
            **medians_ms(list(read(self._path))[before:], *self._legs),
            **{f"{name}_cpu": us / 1000 for name, us in took.items()},
        }

    def _await_the_rest(self) -> None:
        """What is beside the last job's way takes longer than the way."""
        end = time.monotonic() + _RESULT_S
        while not is_over(read(self._path), *self._legs):
            if time.monotonic() > end:
                raise TimeoutError(f"the last job was not acknowledged within {_RESULT_S:g} s")
            time.sleep(_LOOK_S)

    def _one(self) -> None:
        handle = self.client.submit(self.study("noop", 1))
        for result in handle.as_completed(_RESULT_S):
            self._known(result)

    def _point(self) -> Callable[[], None]:
        handle = self.client.submit(self.study("noop", 1))
        numbers = itertools.count()

        def one() -> None:
            self._marks.add("submit")
            self._known(handle.evaluate({"x": next(numbers)}, _RESULT_S))

        return one

    def _known(self, result: Result) -> None:
        self._marks.add("known")
        at = result.metrics["at"]
        assert isinstance(at, float)
        self._marks.add("called", at)
