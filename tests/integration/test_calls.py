"""Many short calls in one warm process: as separate as if each had its own, and much faster."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from queue_runner.model import Job, Resources, Result, State
from queue_runner.workers.attempt import attempt_job
from queue_runner.workers.calls import CallLane, Turn
from queue_runner.workers.runtimes.base import Stop
from queue_runner.workers.runtimes.processes import is_running
from queue_runner.workers.workplace import Workplace
from tests.integration.system import eventually

MODULE = """
import json, os, subprocess, sys, threading, time
from pathlib import Path

def number(x): return {"x": x, "half": x / 2}
def nothing(x): pass
def where(x): return {"pid": os.getpid(), "folder": os.getcwd(),
    "job": os.environ["QUEUE_RUNNER_JOB"], "study": os.environ["QUEUE_RUNNER_STUDY"]}
def says(x): print("x is", x); return x
def writes(x):
    if x == 1: Path("sub/data.txt").write_text("changed")
    return {"read": Path("sub/data.txt").read_text(), "files": len(os.listdir())}
def measures(x): Path("metrics.json").write_text(json.dumps({"deep": {"x": x}}))
def raises(x):
    print("before", x)
    if x == 1: raise RuntimeError("it broke")
    return x
def unsayable(x): return {"x": object()} if x == 1 else x
def listed(x): return [x] if x == 1 else x
def crashes(x):
    if x == 1: os.kill(os.getpid(), 11)
    return {"pid": os.getpid()}
def leaves(x):
    if x == 1: os._exit(7)
    return x
def child(x): return subprocess.Popen(["sleep", "100"]).pid if x == 1 else x
def thread(x):
    if x == 1: threading.Thread(target=time.sleep, args=[100], daemon=True).start()
    return os.getpid()
def long(x): return "a" * (100_000 if x == 1 else 10_000)
def strays(x):
    if x == 1: os.chdir("/tmp")
    return os.getcwd()
def removes(x):
    if x == 1: os.remove("sub/data.txt")
    return Path("sub/data.txt").exists()
def waits(x, go):
    while x == 1 and not os.path.exists(go): time.sleep(0.01)
def hangs(x):
    Path("begun").touch()
    while x == 1: pass
    return x
"""


@pytest.fixture
def jobs(place: Workplace, tmp_path: Path) -> Any:
    files = tmp_path / "files"
    (files / "sub").mkdir(parents=True)
    (files / "model.py").write_text(MODULE)
    (files / "sub/data.txt").write_text("as it was")
    sha256 = place.store.put_folder(files)

    def make(function: str, count: int = 4, **fields: Any) -> list[Job]:
        return [
            Job(f"s.{n:07}", "s", n, "python", {"x": n},
                {"call": f"model:{function}", "args": {"x": n}}, sha256, **fields)
            for n in range(count)
        ]  # fmt: skip

    return make


def together(place: Workplace, jobs: list[Job], stop: Stop | None = None) -> list[Result]:
    """All of them through the lane, as the daemon does it."""
    lane, stop = CallLane(place), stop or Stop()
    turns = [Turn(job, 1) for job in jobs]
    assert len({lane.key(job) for job in jobs} - {None}) == 1
    results: list[Result] = []
    try:
        while len(results) < len(turns) and not stop.thrown:
            results += lane.run(turns[len(results) :], stop, lambda begun: None)
        return results
    finally:
        lane.close()


def apart(place: Workplace, jobs: list[Job]) -> list[Result]:
    return [attempt_job(place, job, 1, Stop()) for job in jobs]


def essence(result: Result) -> object:
    """What has to be the same whichever way a job took."""
    # a trace names files of its own process
    failed = result.state is State.FAILED
    artifacts = [(each.name, failed or each.sha256) for each in result.artifacts]
    tail = [line for line in result.log_tail.splitlines() if not line.startswith("  ")]
    return (result.job_id, result.state, result.metrics, result.failure, artifacts, tail,
            result.provenance, result.point, result.attempt, result.final)  # fmt: skip


@pytest.mark.parametrize(
    "function",
    ["number", "nothing", "says", "writes", "measures", "raises", "unsayable", "listed", "crashes",
     "leaves", "long", "removes"],
)  # fmt: skip
def test_a_job_comes_to_the_same_either_way(place: Workplace, jobs: Any, function: str) -> None:
    some = jobs(function)
    there = together(place, some)
    if function == "crashes":
        there = [result for result in there if result.index == 1]
        some = some[1:2]
    assert list(map(essence, there)) == list(map(essence, apart(place, some)))


def test_one_process_serves_all_and_one_folder_too(place: Workplace, jobs: Any) -> None:
    results = together(place, jobs("where", 50))
    assert len({result.metrics["pid"] for result in results}) == 1
    assert len({result.metrics["folder"] for result in results}) == 1
    assert [result.metrics["job"] for result in results] == [f"s.{n:07}" for n in range(50)]


def test_a_study_of_the_same_files_finds_the_process(place: Workplace, jobs: Any) -> None:
    lane, found = CallLane(place), []
    for study in ("s", "t"):
        (job,) = [replace(job, study=study, id=f"{study}.0000000") for job in jobs("where", 1)]
        found += [result.metrics for result in lane.run([Turn(job, 1)], Stop(), lambda begun: None)]
    lane.close()
    first, second = found
    assert (first["study"], second["study"]) == ("s", "t")
    assert second | {"study": "s", "job": "s.0000000"} == first


def test_what_one_call_writes_no_other_sees(place: Workplace, jobs: Any) -> None:
    read = [result.metrics["read"] for result in together(place, jobs("writes"))]
    assert read == ["as it was", "changed", "as it was", "as it was"]


def test_a_call_that_strays_leads_no_other_astray(place: Workplace, jobs: Any) -> None:
    first, second, third, _ = (r.metrics["value"] for r in together(place, jobs("strays")))
    assert (second, first) == ("/tmp", third)


def test_a_crash_costs_its_own_job_only(place: Workplace, jobs: Any) -> None:
    results = together(place, jobs("crashes", 6))
    assert [result.state for result in results] == [
        State.FAILED if n == 1 else State.SUCCEEDED for n in range(6)
    ]
    assert results[1].failure is not None
    assert "SIGSEGV" in results[1].failure.message
    assert results[0].metrics["pid"] != results[2].metrics["pid"] == results[5].metrics["pid"]


def test_what_a_call_leaves_running_is_ended(place: Workplace, jobs: Any) -> None:
    results = together(place, jobs("child"))
    assert [result.state for result in results] == [State.SUCCEEDED] * 4
    assert not is_running(int(str(results[1].metrics["value"])))


def test_a_thread_that_runs_on_ends_with_its_process(place: Workplace, jobs: Any) -> None:
    pids = [result.metrics["value"] for result in together(place, jobs("thread"))]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_more_answers_than_the_page_holds(place: Workplace, jobs: Any) -> None:
    results = together(place, jobs("long", 200))
    lengths = [len(str(result.metrics["value"])) for result in results]
    assert lengths == [100_000 if n == 1 else 10_000 for n in range(200)]


def test_a_stop_ends_it_and_what_was_done_stays_done(place: Workplace, jobs: Any) -> None:
    stop = Stop()
    lane = threading.Thread(target=lambda: results.extend(together(place, jobs("hangs"), stop)))
    results: list[Result] = []
    lane.start()
    eventually(lambda: len(list(place.folder.glob("calls-*/call-*"))) >= 2 or None)
    stop.throw("enough")
    lane.join(30)
    assert not lane.is_alive()
    assert [result.index for result in results] == [0]


def test_one_that_takes_long_holds_up_no_other(place: Workplace, jobs: Any, tmp_path: Path) -> None:
    told: list[int] = []
    results: list[Result] = []
    go = tmp_path / "go"
    turns = [
        Turn(replace(job, spec={"call": "model:waits", "args": {**job.point, "go": str(go)}}), 1)
        for job in jobs("waits")
    ]

    def held(begun: int) -> None:
        told.append(len(results) + begun)
        if told[-1] == 2:
            go.touch()

    lane = CallLane(place)
    # on a busy machine the server itself takes long to start
    while not go.exists():
        results += list(lane.run(turns[len(results) :], Stop(), held))
    lane.close()
    assert told[-1] == 2
    assert [result.index for result in results] == [0, 1]


def test_which_jobs_take_the_ordinary_way(place: Workplace, jobs: Any) -> None:
    lane = CallLane(place)
    (plain,) = jobs("number", 1)
    assert lane.key(plain) is not None
    for fields in (
        {"keep": ("*",)},
        {"measure": {"metrics": "m.json"}},
        {"measure": {"log": [{"name": "x", "pattern": "x"}]}},
        {"resources": Resources(wall_time_s=1.0)},
        {"resources": Resources(memory_bytes=10**9)},
    ):
        (job,) = jobs("number", 1, **fields)
        assert lane.key(job) is None, fields


@pytest.mark.parametrize(
    "spec",
    [{}, {"call": ["model", "f"], "args": {}}, {"call": "model:f"}, {"call": 7, "args": [1]}],
)
def test_a_spec_that_no_study_makes_costs_its_own_job_only(
    place: Workplace, spec: dict[str, Any]
) -> None:
    """Such a job comes from a stranger. It used to end the worker, and the next one that leased it."""
    job = Job("s.0000000", "s", 0, "python", {}, spec)
    lane = CallLane(place)
    stop = Stop()
    try:
        if (key := lane.key(job)) is not None:
            hash(key)
            (result,) = lane.run([Turn(job, 1)], stop, lambda begun: None)
        else:
            result = attempt_job(place, job, 1, stop)
    finally:
        stop.close()
        lane.close()
    assert result.state is State.FAILED
    assert result.failure is not None
