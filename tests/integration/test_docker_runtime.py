"""Runtime `docker`, looked at from inside its containers, and with everything around it failing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from docker import DockerClient
from docker.models.containers import Container
from docker.types import CancellableStream

from queue_runner.errors import EngineRefused, EngineUnavailable, JobError, QueueRunnerError
from queue_runner.images.engine import open_engine
from queue_runner.model import Job, Reason, Resources
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.runtimes.base import Outcome, Stop
from queue_runner.workers.runtimes.docker import DockerRuntime, leftovers
from queue_runner.workers.runtimes.docker.images import pin
from tests.integration.system import (
    EXAMPLES,
    SLEEPER,
    System,
    Tables,
    docker_worker,
    eventually,
    running_system,
    study_folder,
    submitted_table,
)

pytestmark = [pytest.mark.containers, pytest.mark.timeout(400)]
NO_LIMITS = Resources()
BASE = "queue-runner/base:latest"


@pytest.fixture
def engine() -> Iterator[DockerClient]:
    with open_engine() as client:
        yield client


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[DockerRuntime]:
    made = DockerRuntime(tmp_path / "scratch")
    yield made
    made.close()


def a_job(**fields: Any) -> Job:
    return Job(
        id="study.0000007", study="study", index=7, kind="command", point={}, spec={}, **fields
    )


Run = Callable[..., tuple[Outcome, str]]


@pytest.fixture
def run(runtime: DockerRuntime) -> Run:
    """Runs a Python program in a container of the base image; its outcome and its log."""

    def run_code(
        code: str,
        *,
        argv: tuple[str, ...] | None = None,
        job: Job | None = None,
        limits: Resources = NO_LIMITS,
        wall_time_s: float | None = None,
        stop: Stop | None = None,
        request: bytes | None = None,
    ) -> tuple[Outcome, str]:
        folder = runtime.folder / "work"
        folder.mkdir(exist_ok=True)
        (folder / "hello.py").write_text("def hello(x): print('called'); return {'twice': 2 * x}\n")
        step = Step("probe", argv or ("python3", "-c", code), "log.probe", request=request)
        outcome = runtime.run(
            step,
            job or a_job(),
            folder,
            worker="node7",
            attempt=3,
            limits=limits,
            wall_time_s=wall_time_s,
            stop=stop or Stop(),
        )
        return outcome, (folder / "log.probe").read_text()

    return run_code


def ours(engine: DockerClient, runtime: DockerRuntime) -> list[Any]:
    wanted = [f"{leftovers.OWNER}={runtime.folder / 'lock'}"]
    return engine.containers.list(all=True, filters={"label": wanted}, ignore_removed=True)


def steps(engine: DockerClient, runtime: DockerRuntime) -> list[Any]:
    """Containers of jobs, not those that look what is in an image."""
    return [each for each in ours(engine, runtime) if "queue-runner.job" in each.labels]


# -- what it is allowed ------------------------------------------------------------------------------

PROBE = """
import json, os, resource
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
mounts = [line.split()[:4] for line in open("/proc/self/mounts")]
def limit(*names):
    for name in names:
        if os.path.exists(name): return open(name).read().split()[0]
def writable(folder):
    try:
        with open(folder + "/probe", "w"): return True
    except OSError: return False
shm = os.statvfs("/dev/shm")
open("mine", "w").close()
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(),
    "capabilities": [status[f"Cap{kind}"].strip() for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")],
    "no_new_privileges": status["NoNewPrivs"].strip(), "seccomp": status["Seccomp"].strip(),
    "network": sorted(os.listdir("/sys/class/net")),
    "writable": [f for f in ("/", "/usr", "/etc", "/var", os.getcwd(), "/tmp", "/dev/shm") if writable(f)],
    "bound": sorted(m[1] for m in mounts if m[0].startswith("/dev/") and not m[1].startswith("/etc/")),
    "memory": limit("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"),
    "pids": limit("/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max"),
    "quota": limit("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu.max"),
    "cpus": sorted(os.sched_getaffinity(0)), "shm": shm.f_blocks * shm.f_frsize,
    "core": resource.getrlimit(resource.RLIMIT_CORE), "cwd": os.getcwd(), "home": os.environ["HOME"],
    "pwd": os.environ["PWD"],
    "job": os.environ["QUEUE_RUNNER_JOB"],
    "processes": sorted(open(f"/proc/{n}/comm").read().strip() for n in os.listdir("/proc") if n.isdigit()),
}))
"""


def test_a_job_gets_the_least_it_needs(run: Run, runtime: DockerRuntime) -> None:
    limits = Resources(cores=1, memory_bytes=256 * 1024**2)
    outcome, log = run(PROBE, limits=limits)
    assert outcome.exit_code == 0, log
    inside = json.loads(log)
    folder = str(runtime.folder / "work")
    user = os.geteuid() or 1000
    assert (inside["uid"], inside["groups"]) in [(user, []), (user, [inside["gid"]])]
    assert inside["uid"] != 0
    assert inside["gid"] != 0
    assert inside["capabilities"] == ["0" * 16] * 5
    assert inside["no_new_privileges"] == "1"
    assert inside["seccomp"] == "2"
    assert inside["network"] == ["lo"]
    assert inside["writable"] == [folder, "/tmp", "/dev/shm"]
    assert set(inside["bound"]) - {"/sbin/docker-init", "/usr/sbin/docker-init"} == {folder}
    assert inside["memory"] == str(256 * 1024**2)
    assert inside["pids"] == "4096"
    assert inside["quota"] == "100000"
    assert inside["shm"] == 256 * 1024**2
    assert inside["core"] == [0, 0]
    assert inside["cwd"] == inside["pwd"] == inside["home"] == folder
    assert inside["job"] == "study.0000007"
    # and the engine's own init
    assert inside["processes"] == ["docker-init", "python3"]
    assert (runtime.folder / "work" / "mine").stat().st_uid == user


def test_a_study_may_ask_for_a_network_memory_to_share_and_cpus(run: Run) -> None:
    asked = {"network": "bridge", "shm": 32 * 1024**2, "cpuset": True}
    _, log = run(PROBE, job=a_job(container=asked))
    inside = json.loads(log)
    assert "eth0" in inside["network"]
    assert inside["shm"] == 32 * 1024**2
    assert len(inside["cpus"]) == 1


def test_containers_carry_the_names_of_what_they_do(
    run: Run, runtime: DockerRuntime, engine: DockerClient
) -> None:
    stop = Stop()
    running = threading.Thread(
        target=run, args=("import time; time.sleep(600)",), kwargs={"stop": stop}
    )
    running.start()
    (container,) = eventually(lambda: steps(engine, runtime) or None)
    assert container.labels["queue-runner.study"] == "study"
    assert container.labels["queue-runner.job"] == "study.0000007"
    assert container.labels["queue-runner.attempt"] == "3"
    assert container.labels["queue-runner.worker"] == "node7"
    # the image's health check asks a worker that is not there, in the job's share of the CPU
    assert "Health" not in container.attrs["State"]
    stop.throw("enough")
    running.join()
    eventually(lambda: ours(engine, runtime) == [])


# -- how it ends -------------------------------------------------------------------------------------


def test_an_exit_code_and_what_was_printed_arrive(
    run: Run, runtime: DockerRuntime, engine: DockerClient
) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); print('x' * 3_000_000); sys.exit(9)"
    outcome, log = run(code)
    assert (outcome.exit_code, outcome.ended_by) == (9, None)
    assert "out\n" in log
    assert "err\n" in log
    assert log.count("x") == 3_000_000
    eventually(lambda: ours(engine, runtime) == [])


@pytest.mark.parametrize("ignores", [False, True])
def test_wall_time_ends_it(run: Run, ignores: bool) -> None:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN);" if ignores else ""
    outcome, _ = run(f"import signal, time; {ignore} time.sleep(600)", wall_time_s=2.0)
    assert outcome.ended_by == "wall-time"
    assert outcome.exit_code == -(signal.SIGKILL if ignores else signal.SIGTERM)


def test_what_it_prints_is_seen_at_once_and_a_stop_ends_it(
    run: Run, runtime: DockerRuntime
) -> None:
    log, stop = runtime.folder / "work/log.probe", Stop()

    def when_it_runs() -> None:
        # its log grows while it runs, not when it has ended
        eventually(lambda: (log.exists() and "ready" in log.read_text()) or None)
        stop.throw("cancelled")

    thread = threading.Thread(target=when_it_runs)
    thread.start()
    outcome, _ = run("import time; print('ready', flush=True); time.sleep(600)", stop=stop)
    thread.join()
    assert outcome.ended_by == "stop"


def test_too_much_memory_is_told_from_other_ends(run: Run) -> None:
    limits = Resources(memory_bytes=64 * 1024**2)
    outcome, _ = run("x = bytearray(300 * 1024**2); print(sum(x))", limits=limits)
    assert outcome.ended_by == "out-of-memory"
    killed, _ = run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", limits=limits)
    assert killed.ended_by is None
    assert killed.exit_code == -signal.SIGSEGV


def test_too_much_memory_is_told_though_the_engine_raises_no_flag(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It raises none where it hears of the end before it hears of the reason."""
    plain = Container.reload

    def reload(container: Container) -> None:
        plain(container)
        container.attrs["State"]["OOMKilled"] = False

    monkeypatch.setattr(Container, "reload", reload)
    limits = Resources(memory_bytes=64 * 1024**2)
    outcome, _ = run("x = bytearray(300 * 1024**2); print(sum(x))", limits=limits)
    assert outcome.ended_by == "out-of-memory"
    killed, _ = run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", limits=limits)
    assert (killed.ended_by, killed.exit_code) == (None, -signal.SIGKILL)


ENDING = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit({})); "


@pytest.mark.parametrize(
    "program", ["", ENDING.format(0), ENDING.format(1)], ids=["killed", "ends well", "ends ill"]
)
def test_a_container_that_somebody_ends_is_no_failure_and_no_success(
    run: Run, runtime: DockerRuntime, engine: DockerClient, program: str
) -> None:
    errors: list[BaseException] = []

    def running() -> None:
        try:
            run(f"{program}print('ready', flush=True); import time; time.sleep(600)")
        except QueueRunnerError as error:
            errors.append(error)

    thread = threading.Thread(target=running)
    thread.start()
    (container,) = eventually(
        lambda: [each for each in steps(engine, runtime) if each.status == "running"] or None
    )
    log = runtime.folder / "work/log.probe"
    eventually(lambda: "ready" in log.read_text() or None)
    container.stop()
    thread.join()
    assert isinstance(errors[0], EngineUnavailable)
    assert "from outside" in str(errors[0])


def test_a_program_that_is_not_there(run: Run) -> None:
    with pytest.raises(
        JobError, match="no program 'simpleFoan' in the image queue-runner/base"
    ) as caught:
        run("", argv=("simpleFoan",))
    assert caught.value.reason == Reason.MISSING_PROGRAM


def test_python_functions_are_called_in_the_image(run: Run, runtime: DockerRuntime) -> None:
    folder = runtime.folder / "work"
    request = {"call": "hello:hello", "args": {"x": 21}, "folder": str(folder), "log": "log.probe"}
    argv = (sys.executable, "-m", "queue_runner.workers.pycall")
    outcome, log = run("", argv=argv, request=msgpack.packb(request))
    assert outcome.exit_code == 0, log
    assert "called" in log
    assert json.loads((folder / ".returned.json").read_text()) == {"twice": 42}


def test_what_it_asks_the_engine_is_closed_with_the_container(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not by the garbage collector, much later."""
    streams: list[CancellableStream] = []
    made = CancellableStream.__init__

    def record(self: CancellableStream, *told: Any) -> None:
        made(self, *told)
        streams.append(self)

    monkeypatch.setattr(CancellableStream, "__init__", record)
    assert run("print(1)")[0].exit_code == 0
    assert streams
    assert all(each._response.raw.closed for each in streams)


# -- images ------------------------------------------------------------------------------------------


def test_a_tag_is_pinned_and_another_image_under_it_is_refused(
    run: Run, engine: DockerClient
) -> None:
    tag = "queue-runner/test-pinned:latest"
    engine.images.get(BASE).tag(tag)
    try:
        pinned = pin(engine, tag)
        assert pinned == f"{tag}@{engine.images.get(BASE).id}"
        assert run("print(1)", job=a_job(image=pinned))[0].exit_code == 0
        other = f"{tag}@sha256:{'0' * 64}"
        with pytest.raises(JobError, match=r"has sha256:.* under that tag") as caught:
            run("print(1)", job=a_job(image=other))
        assert caught.value.reason == Reason.IMAGE
    finally:
        engine.images.remove(tag)


def test_an_image_that_is_not_here(run: Run) -> None:
    with pytest.raises(JobError, match="docker pull nobody/nothing:1"):
        run("", job=a_job(image="nobody/nothing:1"))
    with pytest.raises(JobError, match="queue-runner image build none"):
        run("", job=a_job(image="queue-runner/none:latest"))


# -- with everything around it failing ---------------------------------------------------------------


@pytest.mark.openfoam
def test_tables_are_those_of_bare_processes(
    broker_url: str, tmp_path: Path, embedded: Tables
) -> None:
    check_tables(System(tmp_path, broker_url), embedded)


def check_tables(system: System, embedded: Tables, *options: str) -> None:
    """options: of the worker."""
    try:
        system.start_collector()
        docker_worker(system, "worker", *options)
        for example, expected in embedded.items():
            assert submitted_table(system, EXAMPLES / example / "study.yaml") == expected
    finally:
        system.stop()


def test_a_worker_and_a_janitor_may_remove_the_same_containers(
    engine: DockerClient, runtime: DockerRuntime
) -> None:
    labels = {**leftovers.labels(runtime._owner), "queue-runner.job": "s.0000000"}
    for _ in range(4):
        engine.containers.run(BASE, ["sleep", "100"], entrypoint=[], labels=labels, detach=True)
    together, failed = threading.Barrier(4), []

    def remove() -> None:
        together.wait()
        try:
            leftovers.remove(engine, labels)
        except QueueRunnerError as error:
            failed.append(error)

    threads = [threading.Thread(target=remove) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    eventually(lambda: ours(engine, runtime) == [])


def test_without_an_engine_the_worker_says_so(tmp_path: Path, zeromq_url: str) -> None:
    system = System(tmp_path, zeromq_url)
    system.env["DOCKER_HOST"] = "unix:///nowhere/docker.sock"
    done = system.call("worker", "--runtime", "docker", "--scratch", str(tmp_path / "s"))
    assert done.returncode == 3
    assert "no Docker engine answers at unix:///nowhere/docker.sock: start it" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.root
def test_without_permission_on_the_socket_it_says_so() -> None:
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setuid(65534)
            with open_engine():
                os.write(writing, b"opened")
        except EngineRefused as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as said:
        assert "group docker" in said.read().decode()


@pytest.mark.root
def test_a_full_disk_is_named(tmp_path: Path, zeromq_url: str) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", scratch], check=True)
    try:
        with running_system(tmp_path, zeromq_url, "--runtime", "docker") as system:
            script = "#!/bin/sh\nhead -c 9000000 /dev/zero >big || exit 1\n"
            study = study_folder(system, SLEEPER.replace("[1, 2]", "[1]"), job__sh=script)
            assert system.call("submit", str(study), "--wait").returncode == 1
            assert [row["reason"] for row in system.json("results")] == ["disk-full"]
    finally:
        subprocess.run(["umount", "-l", scratch], check=True)
