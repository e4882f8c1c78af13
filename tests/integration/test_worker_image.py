"""What a worker's image promises, looked at from inside a container of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from queue_runner.images.engine import open_engine

pytestmark = pytest.mark.containers

ORPHANS = """
import os, subprocess, time
from queue_runner.workers.orphans import Orphans
orphans = Orphans()
for _ in range(5):
    subprocess.run(["sh", "-c", "sleep 0.2 &"], check=True)
own = subprocess.Popen(["sleep", "0.2"])
reaped, end = 0, time.monotonic() + 30
while reaped < 5 and time.monotonic() < end:
    own.poll()
    reaped += orphans.reap()
    time.sleep(0.1)
print("reaped", reaped, "own", own.wait())
"""


@pytest.fixture(params=["base", "openfoam", "mpi"])
def image(request: pytest.FixtureRequest) -> str:
    return f"queue-runner/{request.param}:latest"


@pytest.fixture
def inside(image: str) -> Iterator[object]:
    with open_engine() as client:

        def run(*argv: str) -> str:
            container = client.containers.create(
                image, argv[1:], entrypoint=argv[0], network_mode="none"
            )
            try:
                container.start()
                code = container.wait(timeout=120)["StatusCode"]
                output: str = container.logs().decode()
                assert code == 0, output
                return output
            finally:
                container.remove(force=True)

        yield run


def test_it_is_nobody_special(inside) -> None:  # type: ignore[no-untyped-def]
    assert inside("id", "-u").strip() == "1000"
    assert inside("sh", "-c", "touch $HOME/mine && ls $HOME").split() == ["mine"]
    assert inside("sh", "-c", "ls /usr/sbin/sshd /sbin/init 2>/dev/null || true").strip() == ""
    assert inside("queue-runner", "--version").startswith("queue-runner ")


def test_what_jobs_leave_behind_is_reaped_by_process_1(inside) -> None:  # type: ignore[no-untyped-def]
    assert inside("python", "-c", ORPHANS).strip() == "reaped 5 own 0"


KERNELS = {
    "pingpong": "latency_us",
    "allreduce": "allreduce_us",
    "triad": "triad_MBps",
    "heat": "max_error",
}


@pytest.mark.parametrize("image", ["queue-runner/mpi:latest"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_print_their_figures_and_check_themselves(inside, kernel: str) -> None:  # type: ignore[no-untyped-def]
    printed = inside("mpiexec", "--oversubscribe", "-n", "2", kernel)
    figures = dict(line.split()[:2] for line in printed.splitlines())
    assert float(figures[KERNELS[kernel]]) >= 0.0
    if kernel == "heat":
        assert float(figures["max_error"]) <= 1e-12


@pytest.mark.parametrize("image", ["queue-runner/openfoam:latest"])
def test_openfoam_is_found_by_the_worker(inside) -> None:  # type: ignore[no-untyped-def]
    assert "/usr/share/openfoam" in inside("sh", "-c", "queue-runner doctor | grep openfoam")
