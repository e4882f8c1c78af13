"""A folder with one finished run in it, and the program called in it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from queue_runner.collector.database import Database
from queue_runner.model import Failure, Result, State, StudyRecord

PROGRAM = str(Path(sys.executable).with_name("queue-runner"))
STUDY = "odd-0123456789"
Call = Callable[..., "subprocess.CompletedProcess[str]"]


def _result(index: int, metrics: dict[str, float | str | bool]) -> Result:
    point = {"x": index, "on": index % 2 == 0}
    return Result(f"{STUDY}.{index:07}", STUDY, index, 1, State.SUCCEEDED, True, point, metrics)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Metrics of every type that there is, some missing, and a failed job."""
    state = tmp_path / "runs" / STUDY / "state"
    state.mkdir(parents=True)
    database = Database(f"sqlite:///{state}/collector.sqlite")
    failed = Result(
        f"{STUDY}.0000003", STUDY, 3, 1, State.FAILED, True, {"x": 3, "on": False},
        failure=Failure("exit-code", "it ended with 3"),
    )  # fmt: skip
    results = [
        _result(0, {"y": 1.5, "z": math.nan, "text": 'a,"b"', "whole": 2**53 + 1}),
        _result(1, {"y": math.inf, "good": True}),
        _result(2, {"y": -1e-300, "text": "ünï", "whole": 3}),
        failed,
    ]
    record = StudyRecord(STUDY, "odd", "command", 4, ("x", "on"), {"study": "odd"}, None, "q", 1.0)
    database.apply([record, *results])
    database.close()
    return tmp_path


@pytest.fixture
def call(tmp_path: Path) -> Call:
    def run(*arguments: str, cwd: Path = tmp_path, **env: str) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if "QUEUE_RUNNER" not in key}
        homes = {f"XDG_{name}_HOME": str(tmp_path / name) for name in ("DATA", "CONFIG", "CACHE")}
        return subprocess.run(
            [PROGRAM, *arguments],
            cwd=cwd, env={**clean, **homes, **env}, capture_output=True, encoding="utf-8",
            timeout=60, check=False,
        )  # fmt: skip

    return run
