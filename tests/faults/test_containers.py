"""Workers that are killed while their jobs run in containers."""

from __future__ import annotations

import pytest

from tests.faults.moments import Moments
from tests.faults.rig import WORKERS, Rig
from tests.faults.verdict import Expected

pytestmark = [pytest.mark.containers, pytest.mark.timeout(400)]

_RUNTIME = ("--runtime", "docker", "--image", "queue-runner/base:latest")


@pytest.mark.parametrize("more", [(), ("--warm",)], ids=["each its own", "warm"])
def test_killed_workers_leave_no_container_and_lose_nothing(
    system: Rig, moments: Moments, more: tuple[str, ...]
) -> None:
    system.start_collector()
    sweep = system.submit(jobs=60, kind="contained", longest_s=2.0)
    for name in WORKERS:
        system.start_worker(name, *_RUNTIME, *more)
    for _ in moments.during([sweep], 3, lambda: system.finished(sweep)):
        name = moments.choice(*WORKERS)
        system.kill(name)
        system.start_worker(name, *_RUNTIME, *more)
    system.judge(sweep, expected=Expected(lost=3, ledger=False))
