"""Workers that are killed, stopped or frozen in the midst of a sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from tests.faults.moments import Moments
from tests.faults.rig import SWEEP_S, WORKERS, Rig, start_sweeps
from tests.faults.sweep import Sweep
from tests.faults.verdict import Expected
from tests.integration.system import eventually

pytestmark = [pytest.mark.containers, pytest.mark.timeout(400)]


def test_nothing_is_lost_with_a_killed_worker(system: Rig, moments: Moments) -> None:
    sweeps = start_sweeps(system)
    for _ in moments.during(sweeps, 3):
        name = moments.choice(*WORKERS)
        system.kill(name)
        system.start_worker(name)
    system.judge(*sweeps, expected=Expected(lost=3, all_counted=True))


def test_nothing_is_lost_with_a_stopped_worker_and_no_attempt_is_counted(
    system: Rig, moments: Moments
) -> None:
    # so long that some are running at any time
    sweeps = start_sweeps(system, longest_s=1.6)
    for _ in moments.during(sweeps, 3):
        name = moments.choice(*WORKERS)
        system.drain(name)
        system.start_worker(name, "--grace", f"{moments.random.uniform(0, 0.3):.2f}")
    system.judge(*sweeps, expected=Expected(lost=0))
    # what was running was given back, and ran elsewhere
    assert all_executions(sweeps, "begin").total() > all_executions(sweeps, "end").total()


def test_late_results_of_a_frozen_worker_are_recognised(system: Rig, moments: Moments) -> None:
    sweeps = start_sweeps(system)
    for _ in moments.during(sweeps, 1):
        system.freeze("one")
    # its leases lapse meanwhile, and the other worker does all that is left
    for sweep in sweeps:
        eventually(lambda sweep=sweep: system.finished(sweep) == sweep.jobs, within_s=SWEEP_S)  # type: ignore[misc]
    taken_over = [job for job, n in all_executions(sweeps, "begin").items() if n > 1]
    assert taken_over
    finals = [system.finals(sweep) for sweep in sweeps]
    # what had been reported and not settled yet was run again, and its first result stays
    assert any(finals[0].get(job, finals[1].get(job, (0, "")))[1] == "two" for job in taken_over)
    system.thaw("one")
    eventually(lambda: "lease" in system.log("one"))
    system.judge(*sweeps, expected=Expected(lost=1))
    assert [system.finals(sweep) for sweep in sweeps] == finals


def all_executions(sweeps: Sequence[Sweep], what: str) -> Counter[str]:
    return sum((sweep.executions(what) for sweep in sweeps), Counter())
