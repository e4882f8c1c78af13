"""The process runtime and one attempt, on real processes that misbehave."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from queue_runner.model import Job, Resources, Result, State
from queue_runner.store import open_store
from queue_runner.wire import encode
from queue_runner.workers import leavings, patterns
from queue_runner.workers.attempt import attempt_job
from queue_runner.workers.bundles import Bundles
from queue_runner.workers.runtimes import warm
from queue_runner.workers.runtimes.base import Outcome, Stop, Stopped
from queue_runner.workers.runtimes.environment import OWNER
from queue_runner.workers.runtimes.process import ProcessRuntime
from queue_runner.workers.runtimes.processes import is_running, orphans
from queue_runner.workers.workplace import Workplace
from tests.integration.system import eventually


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


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(a|aa)+$", "takes more than 1 s of processor time"),
        ("((a{0,1000}){0,1000}){0,1000}b", "takes more than 1 s of processor time"),
        ("(", "is no regular expression"),
    ],
)
def test_a_pattern_that_takes_for_ever_costs_its_own_job_only(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, pattern: str, says: str
) -> None:
    monkeypatch.setattr(patterns, "_LEAST_S", 1)
    script = f"echo 'y = 3'; echo {'a' * 100}!"
    good = {"name": "y", "pattern": "y = (.)", "take": "last"}
    bad = {"name": "z", "pattern": pattern, "take": "last"}
    result = run(place, sh(script), measure={"log": [good, bad]})
    assert reason(result) == "metrics"
    assert result.failure is not None
    assert result.failure.message.startswith(f"z: {pattern!r} {says}")
    assert run(place, sh(script), measure={"log": [good]}).metrics == {"y": 3}


def test_more_files_than_anybody_looks_through_fail_their_job_and_are_removed(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leavings, "MOST_ENTRIES", 500)
    many = "mkdir many; seq 1000 | sed 's,^,many/,' | xargs touch"
    result = run(place, sh(many), keep=("**",))
    assert reason(result) == "disk-limit"
    assert result.failure is not None
    assert "more than 500 files and folders" in result.failure.message
    assert result.artifacts == ()
    assert not list(place.folder.glob("**/many"))
    assert run(place, sh(f"{many}; rm -r many"), keep=("**",)).failure is None


def test_names_that_are_no_text_are_told_and_do_no_harm(place: Workplace) -> None:
    result = run(place, sh("touch \"$(printf 'a\\377b')\""), keep=("*",))
    assert reason(result) == "store"
    assert result.failure is not None
    assert "is not UTF-8; rename it" in result.failure.message
    odd = run(place, sh("touch \"$(printf 'new\\nline')\" 'back\\slash' ü"), keep=("*",))
    assert {artifact.name for artifact in odd.artifacts} >= {"new\nline", "back\\slash", "ü"}


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


def test_a_warm_process_is_ended_where_something_goes_wrong_around_it(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    def broken(server: warm._Server, *arguments: object) -> Outcome:
        begun.append(server._process.pid)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(warm._Server, "do", broken)
    failure = call(place, tmp_path, "where").failure
    assert failure is not None
    assert "Invalid argument" in failure.message
    (pid,) = begun
    assert not is_running(pid)


@contextmanager
def killed_worker(scratch: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process with the runtime, in the midst of a job, and the job's process; killed by the end."""
    program = """
import sys
from pathlib import Path
from tests.integration.test_worker import left_by_a_worker
left_by_a_worker(Path(sys.argv[1]))
"""
    worker = subprocess.Popen(
        [sys.executable, "-c", program, str(scratch)], cwd=Path(__file__).parents[2]
    )
    try:
        told = scratch.parent / "pid"
        pid = eventually(lambda: told.exists() and told.read_text().strip())
        yield worker, int(pid)
    finally:
        worker.kill()
        worker.wait()


def test_what_a_killed_worker_left_is_ended_at_once(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    with killed_worker(scratch) as (_, pid):
        assert is_running(pid)
    eventually(lambda: not is_running(pid))
    eventually(lambda: not list(scratch.iterdir()))


def test_what_a_killed_worker_left_is_swept_by_the_next_one(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    with killed_worker(scratch) as (worker, pid):
        (janitor,) = [
            p.pid for p in psutil.Process(worker.pid).children() if "janitor" in str(p.cmdline())
        ]
        os.kill(janitor, signal.SIGKILL)
    assert is_running(pid)
    runtime = ProcessRuntime(scratch)
    try:
        runtime.sweep()
        assert not is_running(pid)
        assert [path.name for path in scratch.iterdir()] == [runtime.folder.name]
    finally:
        runtime.close()


#: Runs until it is ended, with other mounts than here; or, in the same mount namespace, below another root.
ELSEWHERE = {
    "container": ["unshare", "--mount", "sh", "-c", "touch $0/begun; exec sleep 100"],
    "chroot": [
        sys.executable, "-c",
        "import os, sys, time; os.chroot(sys.argv[1]); open('/begun', 'w'); time.sleep(100)",
    ],
}  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize("where", ELSEWHERE)
def test_what_a_worker_in_a_container_runs_is_left_alone(tmp_path: Path, where: str) -> None:
    """Its lock is at a path of its own; here there is none, as if the worker were dead."""
    lock = tmp_path / "elsewhere/.owner-0123456789ab/lock"
    job = subprocess.Popen([*ELSEWHERE[where], str(tmp_path)], env=os.environ | {OWNER: str(lock)})
    runtime = ProcessRuntime(tmp_path / "scratch")
    try:
        eventually(lambda: (tmp_path / "begun").exists())
        runtime.sweep()
        assert is_running(job.pid)
    finally:
        runtime.close()
        job.kill()
        job.wait()


def left_by_a_worker(scratch: Path) -> None:
    """What the killed worker of the test above does until then."""
    runtime = ProcessRuntime(scratch)
    store = open_store(str(scratch.parent / "store"))
    place = Workplace(
        "w", runtime, "process", store, Bundles(store, runtime.folder / "bundles"),
        runtime.folder, scratch / "kept", "none",
    )  # fmt: skip
    run(place, sh(f"echo $$ >{scratch.parent}/pid; exec sleep 100"))


def test_its_place_is_free_when_a_job_has_run_and_before_its_files_are_kept(
    place: Workplace,
) -> None:
    told: list[int] = []

    def tell() -> None:
        told.append(len(list(place.store.entries())))

    job = Job("s.0000000", "s", 0, "command", {}, sh("echo said; exit $CODE"))
    for code, stop in (("0", Stop()), ("1", Stop())):
        spec = {**job.spec, "env": {"CODE": code}}
        result = attempt_job(place, replace(job, spec=spec), 1, stop, tell)
        stop.close()
        assert len(result.artifacts) == 1
    # one that failed keeps its place to the end
    assert told == [0]


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


def test_a_daemon_of_a_job_that_goes_on_outlives_the_end_of_others(
    place: Workplace, tmp_path: Path
) -> None:
    script = f"""
        setsid sh -c 'setsid sleep 100 & echo $! > {tmp_path}/pid; exit' &
        while [ ! -e {tmp_path}/enough ]; do sleep 0.02; done
    """
    other = threading.Thread(target=run, args=(place, sh(script)))
    other.start()
    pid = int(
        eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
        or 0
    )
    # its parents have ended, and it has left group and session: it is the worker's child now
    eventually(lambda: pid in (orphans() or []))
    stop = Stop()
    job = Job(
        "s.0000001",
        "s",
        1,
        "command",
        {},
        sh("setsid sleep 100 & echo $! > pid; cp pid /dev/stdout"),
    )
    result = attempt_job(place, job, 1, stop)
    stop.close()
    assert result.state is State.SUCCEEDED
    assert is_running(pid)
    (tmp_path / "enough").touch()
    other.join(30)
    assert not is_running(pid)


HOSTILE = """
ln -s /etc/passwd log.stolen; ln -s /etc/passwd kept.txt; ln -s / root; mkfifo kept.pipe log.pipe
mkdir -p closed/inner; echo x > closed/inner/kept.txt; chmod 000 closed/inner closed
mkfifo metrics.json
rm log.sh; ln -s /etc/passwd log.sh
"""


@pytest.mark.parametrize("script", [HOSTILE, HOSTILE + "exit 3"], ids=["success", "failure"])
def test_a_hostile_folder_leads_nowhere_and_holds_nobody_up(place: Workplace, script: str) -> None:
    spec = {"steps": [["sh", "-c", script], ["sh", "-c", "echo second"]]}
    result = run(place, spec, keep=("**",))
    names = {each.name for each in result.artifacts}
    assert "closed/inner/kept.txt" in names
    assert not names & {"log.stolen", "kept.txt", "kept.pipe", "log.pipe", "log.sh"}
    assert not any(name.startswith("root/") for name in names)
    assert "root:" not in result.log_tail
    assert list(place.folder.glob("s.*")) == []


def test_a_log_that_a_step_made_a_link_is_not_written_to(place: Workplace, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("as it was")
    first = f"rm log.sh-2 log.sh; ln -s {secret} log.sh-2"
    result = run(place, {"steps": [["sh", "-c", first], ["sh", "-c", "echo second"]]})
    assert reason(result) == "prepare"
    assert "log.sh-2" in (result.failure.message if result.failure else "")
    assert secret.read_text() == "as it was"


def test_a_function_that_answers_for_its_process_harms_its_own_job_only(
    place: Workplace, tmp_path: Path
) -> None:
    code = (
        "import os, time\n"
        "def lie():\n"
        "    for fd in range(3, 40):\n"
        "        try:\n"
        "            os.write(fd, b'\\x7f\\xff\\xff\\xff' + b'x' * 100)\n"
        "        except OSError:\n"
        "            continue\n"
        "    time.sleep(60)\n"
    )
    sha256 = bundle(place, tmp_path, module__py=code)
    spec = {"call": "module:lie", "args": {}}
    resources = Resources(wall_time_s=3.0)
    result = run(place, spec, kind="python", bundle=sha256, resources=resources)
    assert result.state is State.FAILED
    assert run(place, sh("echo next")).state is State.SUCCEEDED


def test_a_job_that_writes_more_than_its_disk_is_ended(place: Workplace) -> None:
    slowly = "for n in $(seq 400); do head -c 1000000 /dev/zero >> big; sleep 0.02; done; echo all"
    result = run(place, sh(slowly), resources=Resources(disk_bytes=20_000_000))
    assert reason(result) == "disk-limit"
    assert "19 MiB" in (result.failure.message if result.failure else "")
    assert "all" not in result.log_tail


def test_what_was_written_faster_than_anybody_looks_is_seen_at_the_end(place: Workplace) -> None:
    quickly = sh("head -c 30000000 /dev/zero > big; mkdir c; mv big c; chmod 000 c")
    result = run(place, quickly, resources=Resources(disk_bytes=20_000_000))
    assert reason(result) == "disk-limit"
    assert run(place, quickly, resources=Resources(disk_bytes=40_000_000)).failure is None
