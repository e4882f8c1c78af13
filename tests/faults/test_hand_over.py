"""Workers that are started anew while their containers go on."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from queue_runner.errors import EngineUnavailable
from queue_runner.images.engine import open_engine
from queue_runner.model import Job, Resources
from queue_runner.signing import UNSIGNED
from queue_runner.workers.handover import Handed, Handovers
from queue_runner.workers.heir import Heir
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.kinds.python import PythonKind
from queue_runner.workers.runtimes.base import HANDED_OVER, Left, Outcome, Stop
from queue_runner.workers.runtimes.docker import DockerRuntime
from tests.integration.system import System, containers_of, eventually, study_folder

pytestmark = [pytest.mark.containers, pytest.mark.timeout(400)]

STUDY = """\
study: patient
kind: command
parameters: {x: [1]}
command:
  files: .
  steps: [[./count.sh, one, "{x}"], [./count.sh, two, "{x}"]]
measure: {log: {last: 'end of two at (\\d+)', ends: {pattern: '^end of', take: count}}}
retries: 3
"""
#: Counts until the test makes a file in its folder.
COUNT = """\
#!/bin/sh
i=0
while [ ! -e "go-$1" ]; do i=$((i + 1)); echo "$1 $i"; sleep 0.02; done
echo "end of $1 at $i"
"""


@pytest.fixture
def engine() -> Iterator[DockerClient]:
    with open_engine() as client:
        yield client


@pytest.fixture
def system(broker_url: str, tmp_path: Path) -> Iterator[System]:
    yield from made(tmp_path, broker_url)


@pytest.fixture
def small(zeromq_url: str, tmp_path: Path) -> Iterator[System]:
    yield from made(tmp_path, zeromq_url)


def made(folder: Path, broker: str) -> Iterator[System]:
    system = System(folder, broker)
    try:
        system.start_collector()
        yield system
    finally:
        system.stop()


def start(system: System, name: str = "w", *options: str, within: str = "5 min") -> None:
    system.start(
        name, "worker", "--name", name, "--scratch", str(system.folder / name), "--cores", "1",
        "--runtime", "docker", "--hand-over", within, *options,
    )  # fmt: skip


def leave(system: System, name: str = "w", how: signal.Signals = signal.SIGTERM) -> None:
    system.daemons[name].send_signal(how)
    assert system.daemons[name].wait(60) == 0, system.log(name)[-3000:]


def submit(system: System) -> str:
    study = study_folder(system, STUDY, count__sh=COUNT)
    return str(json.loads(system.ok("submit", str(study), "--json"))["study"])


def work_folder(system: System, name: str = "w") -> Path | None:
    return next((system.folder / name).glob(".owner-*/patient-*.*"), None)


def container(engine: DockerClient, system: System, study: str, *labels: str) -> Any:
    return next(iter(containers_of(engine, system, study, *labels)), None)


def identity(container: Any) -> tuple[str, str, bool]:
    container.reload()
    state = container.attrs["State"]
    return container.id, state["StartedAt"], state["Running"]


def lines(system: System, log: str, worker: str = "w") -> int:
    folder = work_folder(system, worker)
    return len((folder / log).read_text().splitlines()) if folder and (folder / log).exists() else 0


def table(system: System) -> list[dict[str, Any]]:
    return eventually(lambda: list(system.json("results", "patient")), within_s=100)


def test_containers_go_on_and_are_taken_over(system: System, engine: DockerClient) -> None:
    study = submit(system)
    start(system)
    eventually(lambda: lines(system, "log.count.sh") > 5, within_s=100)
    first = identity(container(engine, system, study))
    leave(system)
    assert identity(container(engine, system, study)) == first
    assert first[2]
    start(system)
    eventually(lambda: "goes on, with 0 of its 2 steps done" in system.log("w"))
    before = lines(system, "log.count.sh")
    eventually(lambda: lines(system, "log.count.sh") > before + 5)
    assert identity(container(engine, system, study)) == first

    folder = work_folder(system)
    assert folder is not None
    (folder / "go-one").touch()
    eventually(lambda: lines(system, "log.count.sh-2") > 5, within_s=60)
    second = identity(container(engine, system, study, "queue-runner.step=count.sh-2"))
    leave(system)
    # it ends while nobody is there
    (folder / "go-two").touch()
    eventually(lambda: not identity(container(engine, system, study))[2])
    assert identity(container(engine, system, study))[:2] == second[:2]
    start(system)

    (row,) = table(system)
    assert (row["state"], row["attempt"], row["worker"]) == ("succeeded", 1, "w")
    assert row["ends"] == 2
    _complete(system, row["last"])
    eventually(lambda: container(engine, system, study) is None)
    leave(system)
    assert list((system.folder / "w").glob(".owner-*")) == []


def _complete(system: System, last: int) -> None:
    """The logs of both steps have every line, once and in order."""
    system.ok("fetch", "patient", "-o", str(system.folder / "fetched"))
    for step, log in (("one", "log.count.sh"), ("two", "log.count.sh-2")):
        text = next((system.folder / "fetched").rglob(log)).read_text()
        counted = [int(number) for number in re.findall(rf"^{step} (\d+)$", text, re.MULTILINE)]
        assert counted == list(range(1, len(counted) + 1))
        assert text.splitlines()[-1] == f"end of {step} at {len(counted)}"
    assert last == len(counted)


def test_a_worker_that_does_not_come_back_loses_its_job(
    small: System, engine: DockerClient
) -> None:
    study = submit(small)
    start(small, within="4 s")
    eventually(lambda: lines(small, "log.count.sh") > 5, within_s=100)
    left, began = container(engine, small, study).id, time.monotonic()
    leave(small)
    # it sweeps as it starts, and finds somebody who may still come
    start(small, "other")
    folder = eventually(lambda: work_folder(small, "other"), within_s=100)
    assert time.monotonic() - began >= 4
    for step in ("go-one", "go-two"):
        (folder / step).touch()
    (row,) = table(small)
    assert (row["state"], row["attempt"], row["worker"]) == ("succeeded", 1, "other")
    eventually(lambda: not engine.containers.list(all=True, filters={"id": left}))
    eventually(lambda: list((small.folder / "w").glob(".owner-*")) == [])


def test_a_job_that_is_cancelled_meanwhile_ends(small: System, engine: DockerClient) -> None:
    study = submit(small)
    start(small)
    eventually(lambda: lines(small, "log.count.sh") > 5, within_s=100)
    leave(small)
    small.ok("cancel", "patient")
    start(small)
    eventually(lambda: container(engine, small, study) is None, within_s=60)
    (row,) = table(small)
    assert row["state"] == "cancelled"


def test_an_interrupt_drains_all_the_same(small: System, engine: DockerClient) -> None:
    study = submit(small)
    start(small, "w", "--grace", "0")
    eventually(lambda: lines(small, "log.count.sh") > 5, within_s=100)
    leave(small, how=signal.SIGINT)
    eventually(lambda: container(engine, small, study) is None)
    assert list((small.folder / "w").glob(".owner-*")) == []


def test_a_killed_worker_hands_nothing_over(small: System, engine: DockerClient) -> None:
    study = submit(small)
    start(small)
    eventually(lambda: lines(small, "log.count.sh") > 5, within_s=100)
    small.daemons["w"].kill()
    small.daemons["w"].wait()
    eventually(lambda: container(engine, small, study) is None)


# -- the runtime alone -------------------------------------------------------------------------------

LIMITS = Resources()
JOB = Job("s.0000000", "s", 0, "command", {}, {"call": "hello:hello", "args": {"x": 3}})
HELLO = """\
import os, sys, time
def hello(x):
    n = 0
    while not os.path.exists("go"):
        print("out", n := n + 1, flush=True); print("err", n, file=sys.stderr, flush=True)
        time.sleep(0.02)
    return {"twice": 2 * x}
"""


def plain(folder: Path) -> Step:
    return Step("count", ("python3", "-c", f"{HELLO}\nhello(3)"), "log.python")


def called(folder: Path) -> Step:
    (step,) = PythonKind().steps(JOB, folder)
    return step


def left_behind(scratch: Path, make: Callable[[Path], Step]) -> tuple[Left, Step, Path]:
    """What a runtime that hands over leaves of a step that it runs."""
    runtime, stop, outcomes = DockerRuntime(scratch, successor_of="w"), Stop(), list[Outcome]()
    folder = runtime.folder / "work"
    folder.mkdir()
    step = make(folder)
    (folder / "hello.py").write_text(HELLO)
    (folder / step.log).write_text("before\n")

    def run() -> None:
        outcomes.append(
            runtime.run(
                step, JOB, folder, worker="w", attempt=1, limits=LIMITS, wall_time_s=None, stop=stop
            )
        )

    running = threading.Thread(target=run)
    running.start()
    eventually(lambda: len((folder / step.log).read_text().splitlines()) > 5, within_s=60)
    stop.throw(HANDED_OVER)
    running.join()
    left = outcomes[0].left
    assert left is not None
    runtime.hand_over("w", 300.0)
    runtime.close()
    return left, step, folder


@contextmanager
def successor(scratch: Path) -> Iterator[DockerRuntime]:
    runtime = DockerRuntime(scratch, successor_of="w")
    try:
        yield runtime
    finally:
        runtime.close()


@pytest.mark.parametrize("make", [plain, called])
@pytest.mark.parametrize("meanwhile", [False, True], ids=["later", "meanwhile"])
def test_every_kind_of_step_is_taken_over(
    tmp_path: Path, make: Callable[[Path], Step], meanwhile: bool, engine: DockerClient
) -> None:
    left, step, folder = left_behind(tmp_path / "scratch", make)
    if meanwhile:
        (folder / "go").touch()
        engine.containers.get(left.handle).wait(timeout=60)
    with successor(tmp_path / "scratch") as runtime:
        assert runtime.folder == folder.parent
        if not meanwhile:
            threading.Timer(0.5, (folder / "go").touch).start()
        # what ended by itself is not ended for its wall time
        wall_time_s = 0.0 if meanwhile else 60.0
        outcome = runtime.take_over(left, step, JOB, folder, wall_time_s=wall_time_s, stop=Stop())
        assert (outcome.exit_code, outcome.ended_by, outcome.left) == (0, None, None)
        assert outcome.wall_s > 0
        log = (folder / step.log).read_text().splitlines()
        assert log[0] == "before"
        for stream in ("out", "err"):
            numbers = [int(each.split()[1]) for each in log if each.startswith(stream)]
            assert numbers == list(range(1, len(numbers) + 1))
        if make is called:
            assert PythonKind().metrics(JOB, folder) == {"twice": 6}
    assert not engine.containers.list(all=True, filters={"id": left.handle})
    assert not folder.parent.exists()


def test_a_container_that_is_gone_gives_its_job_back(tmp_path: Path, engine: DockerClient) -> None:
    left, step, folder = left_behind(tmp_path / "scratch", plain)
    engine.containers.get(left.handle).remove(force=True)
    with (
        successor(tmp_path / "scratch") as runtime,
        pytest.raises(EngineUnavailable, match="the container that was left is gone"),
    ):
        runtime.take_over(left, step, JOB, folder, wall_time_s=None, stop=Stop())


def test_nobody_else_takes_it(tmp_path: Path, engine: DockerClient) -> None:
    left, _, folder = left_behind(tmp_path / "scratch", plain)
    for scratch, name in (("scratch", "other"), ("elsewhere", "w")):
        other = DockerRuntime(tmp_path / scratch, successor_of=name)
        other.sweep()
        assert other.folder != folder.parent
        other.close()
    assert engine.containers.get(left.handle).status == "running"
    with successor(tmp_path / "scratch") as mine:
        assert mine.folder == folder.parent


def test_what_nobody_asks_for_is_ended_in_time(tmp_path: Path, engine: DockerClient) -> None:
    left, step, folder = left_behind(tmp_path / "scratch", plain)
    with successor(tmp_path / "scratch") as runtime:
        Handovers(runtime.folder).write(Handed(JOB.id, folder.name, (step,), 0.0, 0.0, left))
        heir = Heir(runtime, "w", 300.0, UNSIGNED)
        heir.end_overdue()
        assert engine.containers.get(left.handle).status == "running"
        heir = Heir(runtime, "w", 0.0, UNSIGNED)
        heir.end_overdue()
        assert not engine.containers.list(all=True, filters={"id": left.handle})
        assert (folder.exists(), heir.handovers is not None and heir.handovers.any()) == (
            False,
            False,
        )
