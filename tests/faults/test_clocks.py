"""Workers whose clocks are wrong: leases and attempts do not depend on them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from queue_runner.workers.runtimes.processes import pids
from tests.faults.moments import Moments
from tests.faults.rig import Rig
from tests.faults.verdict import Expected

pytestmark = [pytest.mark.containers, pytest.mark.faketime, pytest.mark.timeout(400)]

#: An hour fast, and an hour slow.
CLOCKS = {"one": "+1h", "two": "-1h"}
#: What each process with a wrong clock makes, named after it, and one that is killed leaves behind.
_SHARED = re.compile(r"(?:sem\.faketime_sem|faketime_shm)_(\d+)")


@pytest.fixture(autouse=True)
def nothing_shared_with_the_dead() -> Iterator[None]:
    """`faketime` fails where one with the number of its own process is there already."""
    _remove_what_the_dead_shared()
    yield
    _remove_what_the_dead_shared()


def _remove_what_the_dead_shared() -> None:
    shared = list(Path("/dev/shm").iterdir())
    living = set(pids())
    for path in shared:
        if (made := _SHARED.fullmatch(path.name)) and int(made[1]) not in living:
            path.unlink(missing_ok=True)


@cache
def _library() -> str:
    """The path that `faketime` has loaded first, by the words that the loader replaces."""
    asked = ["faketime", "-m", "-f", "+0", "printenv", "LD_PRELOAD"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wrong(clock: str) -> dict[str, str]:
    """The environment of a process whose wall clock is wrong, and only that."""
    return {"LD_PRELOAD": _library(), "FAKETIME": clock, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def test_a_worker_whose_clock_is_an_hour_wrong_changes_nothing(
    system: Rig, moments: Moments
) -> None:
    system.start_collector()
    sweeps = [system.submit("shell", jobs=200), system.submit("calls", jobs=100, kind="python")]
    for name, clock in CLOCKS.items():
        system.start_worker(name, env=wrong(clock))
    for _ in moments.during(sweeps, 2):
        name = moments.choice(*CLOCKS)
        system.kill(name)
        system.start_worker(name, env=wrong(CLOCKS[name]))
    # the clocks were really wrong: each log line begins with the time
    days = {system.log(name)[:13] for name in CLOCKS}
    assert len(days) == 2
    system.judge(*sweeps, expected=Expected(lost=2, all_counted=True))
