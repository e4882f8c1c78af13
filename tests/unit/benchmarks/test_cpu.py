"""Whose CPU time it is."""

from __future__ import annotations

import subprocess
import sys

import pytest
from measure.cpu import CpuTime, name_of


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/venv/bin/python", "/venv/bin/queue-runner", "worker", "--cores", "2"], "worker"),
        (["/venv/bin/python", "/venv/bin/queue-runner", "submit", "study.yaml"], "client"),
        (["/venv/bin/python", "-m", "queue_runner.workers.pycall"], "function"),
        (["/venv/bin/python", "-m", "queue_runner.workers.spawner"], "spawner"),
        (["/usr/bin/redis-server 127.0.0.1:4711"], "server"),
        (["/usr/lib/erlang/erts-13.1.5/bin/beam.smp", "-W", "w"], "server"),
        (["/bin/sh", "/usr/lib/rabbitmq/bin/rabbitmq-server"], None),
        ([], None),
    ],
)
def test_processes_are_known_by_what_was_called(command: list[str], name: str | None) -> None:
    assert name_of(command) == name


def test_programs_that_have_ended_count_apart_from_who_started_them() -> None:
    cpu = CpuTime()
    burn = f"{sys.executable!r}, '-c', 'sum(range(10**7))'"
    # more than a tick of the clock that times are counted in
    own = "sum(range(2 * 10**6))"
    code = f"import subprocess\nsubprocess.run([{burn}])\n{own}\nprint(flush=True)\ninput()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "queue_runner.workers.spawner"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        cpu.look()
        process.stdin.write(b"\n")
    took = cpu.us_per_job(1)
    assert took["programs"] > took["spawner"] > 0


def test_only_what_a_process_took_since_the_beginning_counts() -> None:
    work = "import sys\nfor line in sys.stdin:\n    sum(range(10**7))\n    print(flush=True)"
    # further words of a command line do not matter to Python
    process = subprocess.Popen(
        [sys.executable, "-c", work, "queue-runner", "worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None

        def turn() -> None:
            process.stdin.write(b"\n")
            process.stdin.flush()
            process.stdout.readline()

        turn()
        idle, busy = CpuTime(), CpuTime()
        idle.look()
        turn()
        busy.look()
        process.stdin.close()
    # the clock has ticks, and one may fall into what surrounds the work
    assert idle.us_per_job(1)["worker"] < busy.us_per_job(1)["worker"]
    assert "all" not in busy.us_per_job(1)
