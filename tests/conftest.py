"""What a test's marks ask of the machine: without it the test is skipped, or fails where all is required."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from queue_runner.errors import QueueRunnerError
from tests.requirements import missing

# an example that takes long says how busy the machine is, and nothing about the code
settings.register_profile("queue-runner", deadline=None)
settings.load_profile("queue-runner")


def _no_engine() -> str | None:
    from queue_runner.images.engine import open_engine

    try:
        with open_engine():
            return None
    except QueueRunnerError as error:
        return str(error)


def _no_openfoam() -> str | None:
    return None if shutil.which("icoFoam") else "no OpenFOAM on PATH"


def _no_s3() -> str | None:
    server = Path(__file__).parents[1] / ".cache/moto/bin/moto_server"
    return None if server.exists() else "no S3 server; scripts/moto installs one"


def _no_compose2() -> str | None:
    program = Path(__file__).parents[1] / ".cache/compose2/docker-compose"
    return None if program.exists() else "no Docker Compose v2; scripts/compose2 gets one"


NEEDS: dict[str, Callable[[], str | None]] = {
    "containers": _no_engine,
    "openfoam": _no_openfoam,
    "s3": _no_s3,
    "hpcc": lambda: None if shutil.which("hpcc") else "no hpcc on PATH",
    "compose2": _no_compose2,
    "faketime": lambda: None if shutil.which("faketime") else "no faketime on PATH",
    "root": lambda: None if os.geteuid() == 0 else "only root can mount and become somebody else",
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark, look in NEEDS.items():
        if item.get_closest_marker(mark) is not None and (why := look()) is not None:
            missing(why)
