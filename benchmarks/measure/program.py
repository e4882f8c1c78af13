"""The `queue-runner` program as one who types it: how long until it answers, until a worker is ready, ..."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import ClassVar

from measure.contender import Contender, Effort, Figures, Place, end
from measure.peers.queue_runner import PROGRAM, environment
from measure.tasks import TRUE
from queue_runner.workers.health import ask

_TIMES = 5
_READY_S = 60.0
_LOOK_S = 0.005
_STUDY = f"study: one\nkind: command\nparameters: {{x: [1]}}\ncommand: {{run: [{TRUE}]}}\n"


class Program(Contender):
    packages: ClassVar[Sequence[str]] = ("queue-runner", "typer", "pydantic")

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._study = place.folder / "study.yaml"

    def start(self) -> None:
        os.environ.update(environment(self.place))
        self._study.write_text(_STUDY)
        listen = ["--listen", os.environ["QUEUE_RUNNER_BROKER"]]
        journal = ["--journal", str(self.place.folder / "broker.sqlite")]
        self.spawn(PROGRAM, "broker", *listen, *journal, "--log-level", "warning")

    def measure(self, workload: str, effort: Effort) -> Figures:
        times = effort.count or max(2, min(_TIMES, round(effort.seconds * 2)))
        return {
            "count": times,
            "python_ms": _median_ms(lambda number: _run(sys.executable, "-c", "pass"), times),
            "help_ms": _median_ms(lambda number: _run(PROGRAM, "--help"), times),
            "worker_ready_ms": _median_ms(self._worker, times),
            "run_over_ms": _median_ms(self._one_job, times),
        }

    def _worker(self, number: int) -> float:
        """Until it says that it works."""
        scratch = self.place.folder / f"scratch-{number}"
        scratch.mkdir(exist_ok=True)
        began = time.perf_counter()
        process = self.spawn(PROGRAM, "worker", "--scratch", str(scratch), "--log-level", "warning")
        while not _works(scratch):
            self.check()
            if time.perf_counter() - began > _READY_S:
                raise TimeoutError(f"the worker is not ready after {_READY_S:g} s")
            time.sleep(_LOOK_S)
        ready_s = time.perf_counter() - began
        end(process)
        self._spawned.remove(process)
        return ready_s

    def _one_job(self, number: int) -> float:
        """A study of one job from its file to its table, less the job itself."""
        folder = self.place.folder / f"runs-{time.monotonic_ns()}"
        seconds = _run(PROGRAM, "run", str(self._study), "--folder", str(folder), "--quiet")
        told = subprocess.run(
            [PROGRAM, "results", "--folder", str(folder), "--json"],
            # where a collector is named, its results are meant
            env={
                key: text for key, text in os.environ.items() if not key.startswith("QUEUE_RUNNER_")
            },
            capture_output=True,
            check=True,
        )
        (row,) = json.loads(told.stdout)
        return seconds - float(row["wall_s"])


def _works(scratch: Path) -> bool:
    return any(report["state"] == "working" for report in ask(scratch))


def _run(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _median_ms(timed: Callable[[int], float], times: int) -> float:
    return 1000 * median(timed(number) for number in range(times))
