"""The process runtime and one attempt, on real processes that misbehave."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queue_runner.model import Job, Resources, Result, State
from queue_runner.store import open_store
from queue_runner.wire import encode
from queue_runner.workers.attempt import Stopped, Workplace, attempt_job
from queue_runner.workers.bundles import Bundles
from queue_runner.workers.runtimes.base import Stop
from queue_runner.workers.runtimes.process import ProcessRuntime
from queue_runner.workers.runtimes.processes import is_running, marked
from tests.integration.system import eventually


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    runtime = ProcessRuntime(tmp_path / "scratch")
    store = open_store(str(tmp_path / "store"))
    yield Workplace(
        "w", runtime, "process", store, Bundles(store, runtime.folder / "bundles"),
        runtime.folder, tmp_path / "kept", "none",
    )  # fmt: skip
    runtime.close()


def bundle(place: Workplace, folder: Path, **files: str) -> str:
    root = folder / "bundle"
    root.mkdir()
    for name, text in files.items():
        path = root / name.replace("__", ".")
        path.write_text(text)
        path.chmod(0o755)
    return place.store.put_folder(root)


def run(place: Workplace, spec: dict[str, Any], *, kind: str = "command", **fields: Any) -> Result:
    stop = Stop()
    try:
        return attempt_job(place, Job("s.0000000", "s", 0, kind, {}, spec, **fields), 1, stop)
    finally:
        stop.close()


def sh(script: str) -> dict[str, Any]:
    return {"steps": [["sh", "-c", script]]}


def reason(result: Result) -> str | None:
    return None if result.failure is None else result.failure.reason


def test_a_success_keeps_its_log(place: Workplace) -> None:
    result = run(place, sh("echo hello; echo $QUEUE_RUNNER_JOB"))
    assert (result.state, reason(result)) == (State.SUCCEEDED, None)
    (log,) = result.artifacts
    assert log.name == "log.sh"
    assert log.size_bytes == len("hello\ns.0000000\n")
    assert {"host", "cpu", "kernel", "queue-runner", "runtime"} <= set(result.provenance)
    assert list(place.folder.glob("s.*")) == []


@pytest.mark.parametrize(
    ("script", "why", "text"),
    [
        ("exit 7", "exit-code", "sh exited with code 7"),
        ("kill -SEGV $$", "signal", "sh was ended by SIGSEGV"),
        ("sh -c 'kill -SEGV $$'; exit $?", "exit-code", "SIGSEGV in a process that it started"),
    ],
)
def test_how_it_ended(place: Workplace, script: str, why: str, text: str) -> None:
    result = run(place, sh(f"echo before; {script}"))
    assert reason(result) == why
    assert result.failure is not None
    assert text in result.failure.message
    assert result.log_tail.splitlines()[0] == "before"


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["nosuchprogram"], "no program 'nosuchprogram' on this worker's PATH"),
        (["./solve"], "there is no program './solve' in the work folder; did you mean 'solver'?"),
        (["./data"], "'./data' is not executable"),
        (["./odd"], "its first line names an interpreter that is not there: #!/nosuch/shell"),
        (["./plain"], "a script needs a first line such as #!/bin/sh"),
    ],
)
def test_missing_programs(place: Workplace, tmp_path: Path, argv: list[str], text: str) -> None:
    sha256 = bundle(
        place, tmp_path, solver="#!/bin/sh\n", odd="#!/nosuch/shell\n", plain="x\n", data=""
    )
    (tmp_path / "bundle" / "data").chmod(0o644)
    sha256 = place.store.put_folder(tmp_path / "bundle")
    result = run(place, {"steps": [argv]}, bundle=sha256)
    assert reason(result) == "missing-program"
    assert result.failure is not None
    assert text in result.failure.message


def test_wall_time_ends_everything_even_what_hides(place: Workplace, tmp_path: Path) -> None:
    script = f"""
        trap '' TERM
        setsid sh -c 'trap "" TERM; echo $$ >> {tmp_path}/pids; while :; do sleep 1; done' &
        echo $$ >> {tmp_path}/pids
        while :; do sleep 1; done
    """
    result = run(place, sh(script), resources=Resources(wall_time_s=0.5))
    assert reason(result) == "wall-time"
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert not any(is_running(pid) for pid in pids)


def test_what_a_success_leaves_running_is_ended(place: Workplace, tmp_path: Path) -> None:
    hiding = f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 100'"
    script = f"{hiding} & while [ ! -s {tmp_path}/pid ]; do sleep 0.01; done"
    assert run(place, sh(script)).state is State.SUCCEEDED
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_memory_is_limited(place: Workplace) -> None:
    spec = {
        "steps": [[sys.executable, "-c", "x = b'x' * 400_000_000; import time; time.sleep(60)"]]
    }
    result = run(place, spec, resources=Resources(memory_bytes=100_000_000))
    assert reason(result) == "out-of-memory"


def test_a_stop_ends_it_soon(place: Workplace) -> None:
    stop = Stop()
    threading.Timer(0.3, stop.throw, ["cancelled"]).start()
    started = time.monotonic()
    with pytest.raises(Stopped) as raised:
        attempt_job(place, Job("s.0000000", "s", 0, "command", {}, sh("sleep 100")), 1, stop)
    stop.close()
    assert raised.value.reason == "cancelled"
    assert time.monotonic() - started < 60
    assert list(place.folder.glob("s.*")) == []


def test_a_large_log_of_garbage(place: Workplace) -> None:
    result = run(place, sh("head -c 100000000 /dev/urandom; echo; echo the end; exit 1"))
    assert result.artifacts[0].size_bytes > 100_000_000
    assert result.log_tail.endswith("the end")
    assert len(result.log_tail) < 20_000


def test_measures(place: Workplace) -> None:
    script = """
        echo 'Cd = 1.5'; echo 'Cd = 2.5'
        echo '{"a": {"b": 3}, "name": "x"}' > metrics.json
    """
    log = [
        {"name": take, "pattern": r"Cd = (\S+)", "take": take, "file": None, "optional": False}
        for take in ("last", "first", "mean", "sum", "count", "min", "max")
    ]
    log.append({"name": "no", "pattern": "nosuch", "take": "last", "file": None, "optional": True})
    result = run(place, sh(script), measure={"metrics": None, "log": log})
    assert result.metrics == {
        "a.b": 3, "name": "x", "last": 2.5, "first": 1.5, "mean": 2.0, "sum": 4.0, "count": 2,
        "min": 1.5, "max": 2.5, "no": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("script", "measure", "text"),
    [
        ("true", {"metrics": "m.json"}, "the job has not written 'm.json'"),
        ("echo '{' > metrics.json", {}, "metrics.json is not JSON"),
        ("echo '[1]' > metrics.json", {}, "expected a map of names to numbers"),
        ("echo '{\"a\": [1]}' > metrics.json", {}, "a: expected a number, text or true/false"),
        ("true", {"metrics": "../../x"}, "leads outside the work folder"),
        (
            "echo x",
            {"log": [{"name": "y", "pattern": "y = (.)", "take": "last"}]},
            "y: nothing in log.sh matches 'y = (.)'",
        ),
    ],
)
def test_what_cannot_be_measured(
    place: Workplace, script: str, measure: dict[str, Any], text: str
) -> None:
    result = run(place, sh(script), measure=measure)
    assert reason(result) == "metrics"
    assert result.failure is not None
    assert text in result.failure.message


def test_artifacts_stay_inside(place: Workplace, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    script = f"""
        mkdir -p out/deep; echo a > out/a.txt; echo b > out/deep/b.txt; echo c > c.dat
        ln -s {tmp_path}/secret out/link.txt; ln -s {tmp_path} outside
    """
    result = run(place, sh(script), keep=("out/**", "*.dat", "outside/*", "../*"))
    assert [artifact.name for artifact in result.artifacts] == [
        "c.dat",
        "out/a.txt",
        "out/deep/b.txt",
    ]


PYTHON = """
import os, sys, subprocess, numpy
def good(x, y=1): print("x is", x); return {"sum": x + y, "array": numpy.float64(2.5)}
def number(): return 3
def bad():
    print("before")
    raise RuntimeError("it broke")
def leave(): os._exit(3)
def end(): sys.exit(4)
def crash(): os.kill(os.getpid(), 11)
def listed(): return [1, 2]
def child(): return subprocess.Popen(["sleep", "100"]).pid
def where(): return {"pid": os.getpid(), "file": os.path.exists(__file__)}
def hang():
    while True: pass
"""


def call(place: Workplace, tmp_path: Path, name: str, **args: Any) -> Result:
    if not (tmp_path / "bundle").exists():
        bundle(place, tmp_path, model__py=PYTHON)
    sha256 = place.store.put_folder(tmp_path / "bundle")
    limits = Resources(wall_time_s=5.0 if name != "hang" else 0.5)
    spec = {"call": f"model:{name}", "args": args}
    return run(place, spec, kind="python", bundle=sha256, resources=limits)


def test_python_functions(place: Workplace, tmp_path: Path) -> None:
    assert call(place, tmp_path, "good", x=2).metrics == {"sum": 3, "array": 2.5}
    assert call(place, tmp_path, "number").metrics == {"value": 3}
    bad = call(place, tmp_path, "bad")
    assert bad.failure is not None
    assert bad.failure.message == "model:bad raised RuntimeError: it broke"
    assert "Traceback" in bad.log_tail
    codes = {name: call(place, tmp_path, name).failure for name in ("leave", "end", "crash")}
    assert {name: f.exit_code for name, f in codes.items() if f} == {
        "leave": 3,
        "end": 4,
        "crash": -11,
    }
    assert reason(call(place, tmp_path, "listed")) == "metrics"
    assert reason(call(place, tmp_path, "hang")) == "wall-time"
    nosuch = call(place, tmp_path, "nosuch").failure
    assert nosuch is not None
    assert "nosuch" in nosuch.message


def test_a_warm_process_is_reused_and_leaves_no_children(place: Workplace, tmp_path: Path) -> None:
    first, second = (call(place, tmp_path, "where").metrics for _ in range(2))
    assert first == second
    assert first["file"] is True
    child = call(place, tmp_path, "child").metrics["value"]
    assert not is_running(int(str(child)))


def test_what_a_killed_worker_left_is_swept(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from tests.integration.test_worker import left_by_a_worker
left_by_a_worker(Path(sys.argv[1]))
"""
    scratch = tmp_path / "scratch"
    worker = subprocess.Popen(
        [sys.executable, "-c", program, str(scratch)], cwd=Path(__file__).parents[2]
    )
    eventually(lambda: marked("QUEUE_RUNNER_JOB", "s.0000000") or None)
    (pid,) = [p for p in marked("QUEUE_RUNNER_JOB", "s.0000000") if p != os.getpid()]
    worker.kill()
    worker.wait()
    assert is_running(pid)
    runtime = ProcessRuntime(scratch)
    try:
        assert runtime.sweep() == 1
        assert not is_running(pid)
        assert [path.name for path in scratch.iterdir()] == [runtime.folder.name]
    finally:
        runtime.close()


def left_by_a_worker(scratch: Path) -> None:
    """What the killed worker of the test above does until then."""
    runtime = ProcessRuntime(scratch)
    store = open_store(str(scratch.parent / "store"))
    place = Workplace(
        "w", runtime, "process", store, Bundles(store, runtime.folder / "bundles"),
        runtime.folder, scratch / "kept", "none",
    )  # fmt: skip
    run(place, {"steps": [["sleep", "100"]]})


def test_a_kept_file_whose_name_is_no_text_fails_its_job_only(place: Workplace) -> None:
    result = run(place, sh("touch \"$(printf 'a\\377b')\""), keep=("*",))
    assert reason(result) == "store"
    assert result.failure is not None
    assert "is not UTF-8" in result.failure.message
    encode(result)


def test_why_a_job_failed_counts_more_than_that_its_files_cannot_be_kept(place: Workplace) -> None:
    result = run(place, sh("touch \"$(printf 'a\\377b')\"; echo why; exit 7"), keep=("*",))
    assert reason(result) == "exit-code"
    assert "why" in result.log_tail
