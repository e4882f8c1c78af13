"""Attempts that go on from checkpoints, with real solvers that are killed in the middle."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from queue_runner.model import Job, Resources, Result, Resume, State
from queue_runner.store import open_store
from queue_runner.store.listing import read_listing
from queue_runner.study import load_study
from queue_runner.testing.servers.ports import free_port
from queue_runner.workers.attempt import attempt_job
from queue_runner.workers.bundles import Bundles
from queue_runner.workers.checkpoints import Checkpoints
from queue_runner.workers.kinds.command import CommandKind
from queue_runner.workers.runtimes.base import CANCELLED, DRAINED, LOST, Stop, Stopped
from queue_runner.workers.runtimes.process import ProcessRuntime
from queue_runner.workers.runtimes.processes import marked
from queue_runner.workers.workplace import Workplace
from tests.integration.system import EXAMPLES, System, eventually

CONTROL = """\
FoamFile { version 2.0; format ascii; class dictionary; object controlDict; }
application icoFoam;
startFrom startTime;
startTime 0;
stopAt endTime;
endTime 0.5;
deltaT 0.001;
writeControl timeStep;
writeInterval 25;
writeFormat binary;
timePrecision 8;
"""
STUDY = """\
study: long
kind: openfoam
parameters: {{nu: [0.01]}}
openfoam:
  case: case
  ranks: {ranks}
  set: {{constant/transportProperties: {{nu: "{{nu}}"}}}}
measure:
  log: {{steps: {{pattern: '^Time = (\\S+)', take: count}}}}
  openfoam: {{residuals: true, time: true, fields: {{p: [min, max], U: [mean]}}}}
keep: ["0.5/*", "processor*/0.1/*"]
resume: {{every: 0.2 s}}
"""
_VARIES = {"attempt", "wall_s", "worker", "execution_time", "clock_time"}


def write_study(folder: Path, ranks: int) -> Path:
    shutil.copytree(EXAMPLES / "cavity" / "case", folder / "case")
    (folder / "case/system/controlDict").write_text(CONTROL)
    mesh = folder / "case/system/blockMeshDict"
    mesh.write_text(mesh.read_text().replace("(20 20 1)", "(40 40 1)"))
    study = folder / "study.yaml"
    study.write_text(STUDY.format(ranks=ranks))
    return study


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """Broker and collector, whose store over HTTP is all that workers share."""
    folder = tmp_path / "system"
    folder.mkdir()
    port = free_port()
    made = System(folder, f"zmq+tcp://127.0.0.1:{port}")
    del made.env["QUEUE_RUNNER_STORE"]
    journal = str(folder / "broker.sqlite")
    made.start("broker", "broker", "--listen", f"127.0.0.1:{port}", "--journal", journal)
    made.start_collector()
    yield made
    # the others would look for their broker for half a minute
    for name in ("first", "second", "collector"):
        if name in made.daemons:
            made.daemons[name].terminate()
            made.daemons[name].wait()
    made.stop()


def start_worker(system: System, name: str) -> None:
    options = ("--lease", "5", "--cores", "2", "--scratch", str(system.folder / name))
    system.start(name, "worker", "--name", name, *options)


def checkpoint_of(system: System, worker: str, after: float) -> float | None:
    times = re.findall(r"can go on from time (\S+)", system.log(worker))
    return float(times[-1]) if times and float(times[-1]) >= after else None


def marks(system: System) -> list[str]:
    return [path.name for path in (system.folder / "store/marks").glob("*")]


def kept(system: System, into: Path) -> dict[str, bytes]:
    system.ok("fetch", "long", "-o", str(into))
    return {
        path.relative_to(into).as_posix(): path.read_bytes()
        for path in into.rglob("*")
        if path.is_file() and not path.name.startswith("log.")
    }


@pytest.mark.openfoam
def test_another_host_goes_on_and_the_result_is_the_same(system: System, tmp_path: Path) -> None:
    write_study(tmp_path, 2)
    whole = System(tmp_path)
    whole.ok("run", "study.yaml", timeout_s=200)
    (expected,) = whole.json("results", "long")

    system.ok("submit", str(tmp_path / "study.yaml"))
    start_worker(system, "first")
    _halt_after(system.folder / "first", "0.15")
    reached = eventually(lambda: checkpoint_of(system, "first", 0.1), within_s=100)
    assert len(marks(system)) == 1
    system.daemons["first"].send_signal(signal.SIGKILL)
    system.daemons["first"].wait()
    start_worker(system, "second")
    system.ok("submit", str(tmp_path / "study.yaml"), "--wait", timeout_s=200)

    (row,) = system.json("results", "long")
    assert (row["worker"], row["attempt"], row["state"]) == ("second", 2, "succeeded")
    assert {k: v for k, v in row.items() if k not in _VARIES} == {
        k: v for k, v in expected.items() if k not in _VARIES
    }
    assert kept(system, tmp_path / "again") == kept(whole, tmp_path / "expected")
    assert len(kept(system, tmp_path / "again")) == 9
    _went_on(next((tmp_path / "again").rglob("log.icoFoam")).read_text(), reached)
    eventually(lambda: not marks(system))


def _halt_after(scratch: Path, time: str) -> None:
    """Freeze the solver once it has begun to write a time, so that it does not end before it is killed."""
    eventually(lambda: list(scratch.glob(f".owner-*/long-*/**/{time}")), within_s=100)
    pids = marked("QUEUE_RUNNER_STUDY", next(scratch.glob(".owner-*/long-*")).name.split(".")[0])
    assert len(pids) >= 3
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def _went_on(log: str, reached: float) -> None:
    """The log is that of one run, whose second program began after the checkpoint."""
    parts = re.split(r"^Exec +: ", log, flags=re.MULTILINE)[1:]
    times = [[float(t) for t in re.findall(r"^Time = (\S+)", p, re.MULTILINE)] for p in parts]
    assert len(times) == 2
    assert times[1][0] > times[0][-1] >= reached
    assert [round(t / 0.001) for part in times for t in part] == list(range(1, 501))


# -- attempts, one by one ----------------------------------------------------------------------------


@contextmanager
def host(folder: Path, store: Path) -> Iterator[Workplace]:
    """A worker's place, with a scratch folder of its own."""
    runtime = ProcessRuntime(folder)
    opened = open_store(str(store))
    bundles = Bundles(opened, runtime.folder / "bundles")
    try:
        yield Workplace(
            "w", runtime, "process", opened, bundles, runtime.folder, folder / "kept", "none"
        )
    finally:
        runtime.close()


def command(script: str, **fields: Any) -> Job:
    spec = {"steps": [["sh", "-c", "echo before"], ["sh", "-c", script]]}
    resume = Resume(3600.0, ("state", "out/*"))
    return Job("s.0000000", "s", 0, "command", {}, spec, resume=resume, **fields)


def attempt(place: Workplace, job: Job, number: int, stop: Stop | None = None) -> Result:
    given = stop or Stop()
    try:
        return attempt_job(place, job, number, given)
    finally:
        given.close()


COUNT = """
    test "$QUEUE_RUNNER_RESUMED" = 1 && test ! -e state && exit 9
    mkdir -p out; echo x >> state; cp state out/$(wc -l < state); wc -l < state
    test $(wc -l < state) -ge 3 || exit 7
"""


def test_a_command_goes_on_from_the_files_that_the_study_names(tmp_path: Path) -> None:
    job = command(COUNT, measure={"log": [{"name": "n", "pattern": r"^(\d)$"}]})
    for number in (1, 2, 3):
        with host(tmp_path / f"host{number}", tmp_path / "store") as place:
            result = attempt(place, job, number)
            assert ("resumed_from" in result.provenance) == (number > 1)
    assert (result.state, result.metrics) == (State.SUCCEEDED, {"n": 3})


@pytest.mark.parametrize(
    ("script", "fields", "goes_on"),
    [
        ("echo x > state; kill -9 $$", {}, True),
        ("echo x > state; sleep 100", {"resources": Resources(wall_time_s=1.0)}, True),
        ("echo x > state; echo '{' > metrics.json", {}, False),
        ("echo x > state", {}, True),
        ("exit 1", {}, False),
    ],
)
def test_what_is_left_after_an_attempt(
    tmp_path: Path, script: str, fields: dict[str, Any], goes_on: bool
) -> None:
    with host(tmp_path / "host", tmp_path / "store") as place:
        job = command(script, **fields)
        if script == "echo x > state":
            # what succeeds is not cut off: it has what it kept before
            job = replace(job, resume=Resume(0.05, ("state",)))
            job = replace(job, spec={"steps": [["sh", "-c", f"{script}; sleep 1"]]})
        attempt(place, job, 1)
        assert (place.store.marked(job.id) is not None) == goes_on


@pytest.mark.parametrize(("reason", "kept"), [(DRAINED, True), (CANCELLED, False), (LOST, False)])
def test_who_may_keep_a_last_checkpoint(tmp_path: Path, reason: str, kept: bool) -> None:
    with host(tmp_path / "host", tmp_path / "store") as place:
        stop, job = Stop(), command("echo x > state; sleep 100")
        running = threading.Thread(target=_stopped, args=[place, job, stop])
        running.start()
        eventually(lambda: list(place.folder.glob("s.*/state")))
        stop.throw(reason)
        running.join()
        assert (place.store.marked(job.id) is not None) == kept


def _stopped(place: Workplace, job: Job, stop: Stop) -> None:
    with pytest.raises(Stopped):
        attempt(place, job, 1, stop)


def test_a_checkpoint_that_is_not_whole_is_no_obstacle(tmp_path: Path) -> None:
    with host(tmp_path / "host", tmp_path / "store") as place:
        assert attempt(place, command(COUNT), 1).state is State.FAILED
        sha256 = place.store.marked("s.0000000")
        assert sha256 is not None
        lost = read_listing(place.store, sha256).files[-1].sha256
        assert place.store.delete(lost, 0.0)
        result = attempt(place, command("test -e state && exit 5; exit 0"), 2)
        assert (result.state, "resumed_from" in result.provenance) == (State.SUCCEEDED, False)


def test_only_what_has_changed_is_sent_again(tmp_path: Path) -> None:
    with host(tmp_path / "host", tmp_path / "store") as place:
        folder = tmp_path / "work"
        folder.mkdir()
        saved = Checkpoints(place.store, CommandKind(), command(""), folder, [], [])
        (folder / "out").mkdir()
        (folder / "out/mesh").write_bytes(b"m" * 1000)
        (folder / "out/link").symlink_to("/etc/passwd")
        for text in ("one", "two"):
            (folder / "state").write_text(text)
            saved.take()
            saved.take()
        # two states, the mesh, and as many listings as there were states
        assert len(list(place.store.entries())) == 5


@pytest.mark.openfoam
def test_a_drained_solver_goes_on_elsewhere(tmp_path: Path) -> None:
    write_study(tmp_path, 1)
    study = load_study(tmp_path / "study.yaml")
    with host(tmp_path / "one", tmp_path / "store") as one:
        bundle = one.store.put_folder(tmp_path / "case")
        # no checkpoint but the last
        job = replace(study.job(0, bundle), resume=Resume(3600.0))
        stop, running = Stop(), threading.Thread()
        running = threading.Thread(target=_stopped, args=[one, job, stop])
        running.start()
        eventually(lambda: list(one.folder.glob("long-*/0.15")), within_s=100)
        stop.throw(DRAINED)
        running.join()
    with host(tmp_path / "two", tmp_path / "store") as two:
        result = attempt(two, job, 1)
        whole = attempt(two, replace(job, id="whole", resume=None), 1)
    assert float(result.provenance["resumed_from"].removeprefix("time ")) >= 0.1
    varies = {"execution_time", "clock_time"}
    assert {k: v for k, v in result.metrics.items() if k not in varies} == {
        k: v for k, v in whole.metrics.items() if k not in varies
    }
    logs = {each.name for each in result.artifacts if each.name.startswith("log.")}
    assert logs == {"log.blockMesh", "log.icoFoam"}
