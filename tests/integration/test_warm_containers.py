"""Warm containers: what a job gets there, what it leaves, and with everything around it failing."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from docker import DockerClient

from queue_runner.errors import EngineUnavailable, FixThis, QueueRunnerError
from queue_runner.images.engine import open_engine
from queue_runner.model import Job, Resources
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.runtimes.base import Outcome, Stop
from queue_runner.workers.runtimes.docker import DockerRuntime, leftovers, warm
from tests.integration.system import (
    SLEEPER,
    System,
    Tables,
    docker_worker,
    eventually,
    study_folder,
    submitted_table,
)
from tests.integration.test_container_limits import MANY_PROCESSES
from tests.integration.test_docker_runtime import (
    PROBE,
    check_tables,
)

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]
NO_LIMITS = Resources()
MIB = 1024**2


@pytest.fixture
def engine() -> Iterator[DockerClient]:
    with open_engine() as client:
        yield client


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[DockerRuntime]:
    made = DockerRuntime(tmp_path / "scratch", warm=True)
    yield made
    made.close()


Run = Callable[..., tuple[Outcome, str]]


@pytest.fixture
def run(runtime: DockerRuntime) -> Run:
    """Runs a program in a work folder of its own, which goes afterwards; its outcome and its log."""

    def run_code(
        code: str = "",
        *,
        argv: tuple[str, ...] | None = None,
        name: str = "work",
        study: str = "study",
        limits: Resources = NO_LIMITS,
        wall_time_s: float | None = None,
        stop: Stop | None = None,
        request: bytes | None = None,
        env: dict[str, str] | None = None,
        **fields: Any,
    ) -> tuple[Outcome, str]:
        folder = runtime.folder / name
        folder.mkdir()
        (folder / "hello.py").write_text("def hello(x): print('called'); return {'twice': 2 * x}\n")
        argv = argv or ("python3", "-c", code)
        step = Step("probe", argv, "log.probe", env=env or {}, request=request)
        job = Job("study.0000007", study, 7, "command", {}, {}, resources=limits, **fields)
        try:
            outcome = runtime.run(
                step,
                job,
                folder,
                worker="node7",
                attempt=3,
                limits=limits,
                wall_time_s=wall_time_s,
                stop=stop or Stop(),
            )
            returned = folder / ".returned.json"
            printed = (folder / "log.probe").read_text(errors="surrogateescape")
            return outcome, printed + (returned.read_text() if returned.exists() else "")
        finally:
            subprocess.run(["rm", "-rf", folder], check=True)

    return run_code


def ours(engine: DockerClient, runtime: DockerRuntime) -> list[Any]:
    wanted = [f"{leftovers.OWNER}={runtime.folder / 'lock'}", "queue-runner.warm=yes"]
    return engine.containers.list(all=True, filters={"label": wanted}, ignore_removed=True)


def in_background(run: Run, *arguments: Any, **more: Any) -> tuple[threading.Thread, list[object]]:
    came: list[object] = []

    def running() -> None:
        try:
            came.append(run(*arguments, **more)[0])
        except QueueRunnerError as error:
            came.append(error)

    thread = threading.Thread(target=running)
    thread.start()
    return thread, came


def said_ready(runtime: DockerRuntime) -> bool:
    return any("ready" in log.read_text() for log in runtime.folder.glob(".warm-*/work/log.probe"))


# -- what it is allowed, and what it gets ------------------------------------------------------------


def test_one_container_does_one_job_after_another(
    run: Run, runtime: DockerRuntime, engine: DockerClient
) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(9)"
    outcome, log = run(code, name="first")
    assert (outcome.exit_code, outcome.ended_by) == (9, None)
    assert sorted(log.split()) == ["err", "out"]
    (container,) = ours(engine, runtime)
    for number in range(3):
        outcome, log = run(f"print({number})", name=f"next.{number}")
        assert (outcome.exit_code, log) == (0, f"{number}\n")
    assert [each.id for each in ours(engine, runtime)] == [container.id]
    assert container.labels["queue-runner.study"] == "study"
    assert container.labels["queue-runner.worker"] == "node7"


def test_studies_and_limits_have_containers_of_their_own(
    run: Run, runtime: DockerRuntime, engine: DockerClient
) -> None:
    run("", name="a")
    run("", name="b", study="other")
    run("", name="c", limits=Resources(memory_bytes=64 * MIB))
    run("", name="d", container={"shm": 32 * MIB})
    assert len(ours(engine, runtime)) == 4
    runtime.close()
    assert ours(engine, runtime) == []


def test_a_job_gets_the_least_it_needs(run: Run, runtime: DockerRuntime) -> None:
    limits = Resources(cores=1, memory_bytes=256 * MIB)
    run("", name="before", limits=limits)
    outcome, log = run(PROBE, limits=limits)
    assert outcome.exit_code == 0, log
    inside = json.loads(log)
    folder = str(runtime.folder / "work")
    assert inside["uid"] == (os.geteuid() or 1000)
    assert inside["gid"] != 0
    assert inside["capabilities"] == ["0" * 16] * 5
    assert inside["no_new_privileges"] == "1"
    assert inside["seccomp"] == "2"
    assert inside["network"] == ["lo"]
    assert inside["writable"] == [folder, "/tmp", "/dev/shm"]
    assert inside["bound"] == [str(runtime.folder)]
    assert inside["memory"] == str(256 * MIB)
    assert inside["pids"] == "4096"
    assert inside["quota"] == "100000"
    assert inside["shm"] == 256 * MIB
    assert inside["core"] == [0, 0]
    assert inside["cwd"] == inside["pwd"] == inside["home"] == folder
    assert inside["job"] == "study.0000007"
    assert inside["processes"] == ["python3", "sh"]


def test_arguments_and_variables_are_never_read_as_shell(run: Run) -> None:
    texts = [
        "", "\n", "two\nlines\n", " spaces ", "$(touch mine)", "`id`; exit 3", "'\"\\", "*", "-n", "a=b",
        bytes(range(1, 256)).decode("utf-8", "surrogateescape"),
    ]  # fmt: skip
    code = "import os, sys; print(repr([*sys.argv[1:], os.environ['ODD']]))"
    odd = "\n$(id)\n'\" \\n"
    outcome, log = run(argv=("python3", "-c", code, *texts), env={"ODD": odd})
    assert outcome.exit_code == 0
    assert log == f"{[*texts, odd]!r}\n"


def test_signals_are_as_in_a_container_of_its_own(run: Run) -> None:
    code = (
        "import os, signal\n"
        "print([signal.getsignal(n) in (0, signal.default_int_handler) for n in (2, 3, 15)])\n"
        "print(os.getpgid(0) == os.getpid(), len(os.listdir('/proc/self/fd')), os.read(0, 1))\n"
        "print(os.getpid() > 1)\n"
        "os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    outcome, log = run(code.replace("os.kill", "import sys; sys.stdout.flush(); os.kill"))
    assert log == "[True, True, True]\nTrue 4 b''\nTrue\n"
    assert (outcome.exit_code, outcome.ended_by) == (-signal.SIGSEGV, None)


def test_functions_are_called(run: Run, runtime: DockerRuntime, engine: DockerClient) -> None:
    argv = (sys.executable, "-m", "queue_runner.workers.pycall")
    for number in (21, 4):
        folder = runtime.folder / "work"
        request = {
            "call": "hello:hello",
            "args": {"x": number},
            "folder": str(folder),
            "log": "log.probe",
        }
        outcome, log = run(argv=argv, request=msgpack.packb(request))
        assert outcome.exit_code == 0, log
        assert log == f'called\n{{"twice": {2 * number}}}'
        assert outcome.max_rss_bytes > MIB
    assert len(ours(engine, runtime)) == 1


def test_what_a_shell_cannot_be_told_gets_a_container_of_its_own(
    run: Run, runtime: DockerRuntime, engine: DockerClient
) -> None:
    code = "import os; print(os.environ['a.b'], os.environ['UID'])"
    assert run(code, env={"a.b": "1", "UID": "2"})[1] == "1 2\n"
    long = "x" * 100_000
    code = "import sys; print(len(sys.argv[1]))"
    assert run(argv=("python3", "-c", code, long), name="long")[1] == "100000\n"
    assert run("", name="cpus", container={"cpuset": True})[0].exit_code == 0
    eventually(lambda: ours(engine, runtime) == [])


def test_an_image_without_a_shell_gives_each_job_a_container(
    run: Run, runtime: DockerRuntime, engine: DockerClient
) -> None:
    tag = "queue-runner/test-no-shell:latest"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(os.path.realpath("/bin/true"), "true")
        listed = subprocess.run(["ldd", "/bin/true"], capture_output=True, text=True, check=True)
        for word in listed.stdout.split():
            if word.startswith("/"):
                tar.add(os.path.realpath(word), word.lstrip("/"))
    engine.api.import_image_from_data(
        packed.getvalue(), repository=tag.partition(":")[0], tag="latest"
    )
    try:
        for number in range(2):
            outcome, _ = run(argv=("/true",), name=f"work.{number}", image=tag)
            assert outcome.exit_code == 0
        eventually(lambda: ours(engine, runtime) == [])
    finally:
        engine.images.remove(tag, force=True)


# -- what it leaves ----------------------------------------------------------------------------------

LEAVE = """
import ctypes, os
open("mine", "w").close()
for folder in ("/tmp", "/dev/shm", "/dev/mqueue"):
    open(folder + "/.left", "w").close()
os.makedirs("/tmp/a/b/c")
os.chmod("/tmp/a/b", 0)
os.symlink("/nowhere", "/dev/shm/..link")
os.environ["LEFT"] = "1"
os.umask(0)
print("left")
"""
LOOK = """
import os
found = [name for folder in ("/tmp", "/dev/shm", "/dev/mqueue", os.path.dirname(os.getcwd()))
         for name in os.listdir(folder) if not os.getcwd().startswith(folder + "/" + name + "/")]
found += [line for each in ("shm", "msg", "sem") for line in list(open("/proc/sysvipc/" + each))[1:]]
print(found, "LEFT" in os.environ, sorted(os.listdir()))
"""
CLEAN = "['second'] False ['hello.py', 'log.probe']\n"


def test_a_job_sees_nothing_of_the_one_before(
    run: Run, runtime: DockerRuntime, engine: DockerClient
) -> None:
    (runtime.folder / "other.1").mkdir()
    assert run(LEAVE, name="first")[1] == "left\n"
    (container,) = ours(engine, runtime)
    assert run(LOOK, name="second")[1] == CLEAN
    assert [each.id for each in ours(engine, runtime)] == [container.id]


def test_what_cannot_be_removed_ends_the_container(
    run: Run, runtime: DockerRuntime, engine: DockerClient
) -> None:
    shared = "import ctypes; assert ctypes.CDLL(None).shmget(42, 4096, 0o1666) >= 0"
    assert run(shared, name="first")[0].exit_code == 0
    assert ours(engine, runtime) == []
    assert run(LOOK, name="second")[1] == CLEAN


OUTLIVE = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                open("alive", "w").close()
                time.sleep(0.01)
        os._exit(0)
while not os.path.exists("alive"):
    time.sleep(0.01)
"""


def test_nothing_that_a_job_started_outlives_it(run: Run) -> None:
    assert run(OUTLIVE, name="first")[0].exit_code == 0
    count = "import os; print([int(name) for name in os.listdir('/proc') if name.isdecimal()])"
    processes = json.loads(run(count, name="second")[1])
    assert len(processes) == 2


def test_a_job_cannot_end_what_it_runs_in(
    run: Run, runtime: DockerRuntime, engine: DockerClient
) -> None:
    shell = "kill -9 1; kill -INT 1; kill -9 -1; mv $PWD ../other; echo alive"
    outcome, log = run(argv=("sh", "-c", shell), name="first")
    assert outcome.exit_code == 0
    assert log.endswith("alive\n")
    (container,) = ours(engine, runtime)
    assert run("", name="second")[0].exit_code == 0
    assert [each.id for each in ours(engine, runtime)] == [container.id]


def test_nothing_that_a_job_says_is_taken_for_another_ones_answer(run: Run) -> None:
    """It is the same user as process 1, and can write where that writes."""
    forge = "open('/proc/1/fd/1', 'w').write('0' * 32 + ' 0 0 1\\n' + 'x ' * 500)"
    run(forge, name="first")
    assert run("raise SystemExit(7)", name="second")[0].exit_code == 7


# -- how it ends -------------------------------------------------------------------------------------


def test_too_much_memory_is_told_from_other_ends(run: Run) -> None:
    limits = Resources(memory_bytes=64 * MIB)
    for name in ("a", "b"):
        outcome, _ = run("x = bytearray(300 * 1024**2); print(sum(x))", name=name, limits=limits)
        assert outcome.ended_by == "out-of-memory"
    killed, _ = run("import os; os.kill(os.getpid(), 9)", name="c", limits=limits)
    assert (killed.ended_by, killed.exit_code) == (None, -signal.SIGKILL)


def test_it_cannot_have_more_processes_than_said(run: Run) -> None:
    assert 1000 < int(run(MANY_PROCESSES, name="first")[1].splitlines()[-1]) <= 4096
    assert run("", name="second")[0].exit_code == 0


def test_it_cannot_exceed_its_disk(run: Run) -> None:
    code = "import time\nout = open('big', 'wb')\nwhile True: out.write(b'x' * 2**20); time.sleep(0.02)"
    outcome, _ = run(code, limits=Resources(disk_bytes=20 * MIB))
    assert outcome.ended_by == "disk-limit"


@pytest.mark.parametrize("ignores", [False, True])
def test_wall_time_ends_it(
    run: Run, runtime: DockerRuntime, engine: DockerClient, ignores: bool
) -> None:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN);" if ignores else ""
    run("", name="before")
    outcome, _ = run(f"import signal, time; {ignore} time.sleep(600)", wall_time_s=2.0)
    assert outcome.ended_by == "wall-time"
    assert outcome.exit_code == -(signal.SIGKILL if ignores else signal.SIGTERM)
    # a signal that comes late would be the next job's
    assert ours(engine, runtime) == []
    assert run("", name="after")[0].exit_code == 0


def test_a_stop_ends_it_and_all_that_it_started(run: Run, runtime: DockerRuntime) -> None:
    stop = Stop()
    shell = "trap 'echo bye; exit 3' TERM; sleep 600 & echo ready; wait"
    thread, came = in_background(run, argv=("sh", "-c", shell), stop=stop)
    eventually(lambda: said_ready(runtime) or None)
    stop.throw("cancelled")
    thread.join()
    (outcome,) = came
    assert isinstance(outcome, Outcome)
    assert (outcome.ended_by, outcome.exit_code) == ("stop", 3)


# -- with everything around it failing ---------------------------------------------------------------


def test_a_container_that_somebody_ends_is_no_failure_and_no_success(
    run: Run, runtime: DockerRuntime, engine: DockerClient
) -> None:
    thread, came = in_background(run, "print('ready', flush=True); import time; time.sleep(600)")
    eventually(lambda: said_ready(runtime) or None)
    (container,) = ours(engine, runtime)
    container.kill()
    thread.join()
    assert isinstance(came[0], EngineUnavailable)
    assert "from outside" in str(came[0])
    assert ours(engine, runtime) == []
    assert run("print(1)", name="after")[1] == "1\n"


def test_an_idle_one_that_somebody_ends_is_not_used(
    run: Run, runtime: DockerRuntime, engine: DockerClient
) -> None:
    run("", name="before")
    (container,) = ours(engine, runtime)
    container.kill()
    container.wait()
    assert run("print(1)", name="after")[1] == "1\n"
    assert [each.id for each in ours(engine, runtime)] != [container.id]


@pytest.fixture
def soon_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "IDLE_S", 0.1)


@pytest.mark.usefixtures("soon_idle")
def test_idle_ones_are_ended(run: Run, runtime: DockerRuntime, engine: DockerClient) -> None:
    run("")
    eventually(lambda: ours(engine, runtime) == [] or None)
    assert list(runtime.folder.glob(".warm-*")) == []


def test_it_is_not_handed_over(tmp_path: Path) -> None:
    with pytest.raises(FixThis, match="--hand-over exclude"):
        DockerRuntime(tmp_path / "scratch", successor_of="node7", warm=True)


def test_run_takes_it_where_there_are_containers(tmp_path: Path) -> None:
    system = System(tmp_path)
    study = study_folder(system, SLEEPER, job__sh="#!/bin/sh\necho y = $1\n")
    refused = system.call("run", str(study), "--runtime", "process", "--warm")
    assert refused.returncode == 2
    assert "--runtime docker, or leave --warm out" in refused.stderr
    system.ok("run", str(study), "--runtime", "docker", "--warm", timeout_s=200)
    assert sorted(row["y"] for row in system.json("results")) == [1.0, 2.0]


def test_a_worker_takes_it_with_containers_only(tmp_path: Path, zeromq_url: str) -> None:
    refused = System(tmp_path, zeromq_url).call("worker", "--warm")
    assert refused.returncode == 2
    assert "--warm goes with --runtime docker" in refused.stderr


@pytest.mark.openfoam
def test_tables_are_those_of_bare_processes(
    zeromq_url: str, tmp_path: Path, embedded: Tables
) -> None:
    check_tables(System(tmp_path, zeromq_url), embedded, "--warm")


RANKS = """\
study: ranks
kind: mpi
parameters: {cells: [400, 401, 402]}
mpi: {program: heat, args: ["--cells", "{cells}", "--steps", "20"], ranks: 2}
measure: {log: {max_error: 'max_error (\\S+)'}}
"""


def test_ranks_work_together(zeromq_url: str, tmp_path: Path) -> None:
    system = System(tmp_path, zeromq_url)
    try:
        system.start_collector()
        docker_worker(system, "worker", "--warm")
        rows = submitted_table(system, study_folder(system, RANKS))
        assert [row["state"] for row in rows] == ["succeeded"] * 3
    finally:
        system.stop()
