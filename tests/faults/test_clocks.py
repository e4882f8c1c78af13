"""Workers whose clocks are wrong: leases and attempts do not depend on them."""

from __future__ import annotations

import subprocess

import pytest

from tests.faults.moments import Moments
from tests.faults.rig import Rig
from tests.faults.verdict import Expected

pytestmark = [pytest.mark.containers, pytest.mark.faketime, pytest.mark.timeout(400)]

#: An hour fast, and an hour slow.
CLOCKS = {"one": "+1h", "two": "-1h"}


def wrong(clock: str) -> dict[str, str]:
    """The environment of a process whose wall clock is wrong, and only that."""
    asked = ["faketime", "-m", "-f", clock, "printenv", "LD_PRELOAD"]
    library = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    return {"LD_PRELOAD": library, "FAKETIME": clock, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


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
