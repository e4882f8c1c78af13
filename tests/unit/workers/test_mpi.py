"""How ranks are started."""

from __future__ import annotations

import os

import pytest

from queue_runner.model import Job, Resources
from queue_runner.workers.mpi import Mpi, alone

OPENMPI = Mpi("/usr/bin/mpiexec", "openmpi", "4.1.4")


@pytest.mark.parametrize(
    ("ranks", "cores", "expected"),
    [(4, 4, True), (2, 2, False), (2, 4, False), (4, 8, False), (8, 8, False)],
    ids=["all", "some", "each with threads", "fewer than said", "more than there are"],
)
def test_ranks_that_take_the_whole_machine_are_alone(
    ranks: int, cores: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    job = Job("s.0", "s", 0, "mpi", {}, {}, resources=Resources(cores=cores))
    assert alone(job, ranks) is expected


def test_only_ranks_that_are_alone_are_bound_to_cores() -> None:
    assert "--bind-to" not in OPENMPI.argv(4, alone=True)
    shared = OPENMPI.argv(4, ("-x", "A"))
    assert shared[shared.index("--bind-to") + 1] == "none"
    assert shared[-4:] == ("-n", "4", "-x", "A")


def test_other_launchers_are_told_the_ranks_only() -> None:
    assert Mpi("/opt/mpiexec", "mpich", "4.2").argv(2) == ("/opt/mpiexec", "-n", "2")
