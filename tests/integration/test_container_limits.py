"""What a job in a container may not do, tried from inside one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from queue_runner.images.engine import open_engine
from queue_runner.model import Job, Resources
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.runtimes.base import Outcome, Stop
from queue_runner.workers.runtimes.docker import DockerRuntime, leftovers
from tests.integration.system import eventually

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]
MIB = 1024**2
NO_LIMITS = Resources()
#: Ends with the names of those of `tries` that were let through.
TRY = """
import ctypes, json, os, socket, stat, sys
libc = ctypes.CDLL(None, use_errno=True)
done = []
def attempt(name):
    def run(function):
        try:
            if function() is not False:
                done.append(name)
        except (OSError, PermissionError, ValueError):
            pass
    return run
def ok(result):
    return result == 0
{tries}
print(json.dumps(done))
"""

Try = Callable[..., list[str]]
Run = Callable[..., tuple[Outcome, str]]


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[DockerRuntime]:
    made = DockerRuntime(tmp_path / "scratch")
    yield made
    made.close()


@pytest.fixture
def engine() -> Iterator[DockerClient]:
    with open_engine() as client:
        yield client


@pytest.fixture
def run(runtime: DockerRuntime) -> Run:
    def run_code(
        code: str, name: str = "work", limits: Resources = NO_LIMITS, **fields: Any
    ) -> tuple[Outcome, str]:
        folder = runtime.folder / name
        folder.mkdir(exist_ok=True)
        step = Step("probe", ("python3", "-c", code), "log.probe")
        job = Job("study.0000007", "study", 7, "command", {}, {}, resources=limits, **fields)
        stop = Stop()
        try:
            outcome = runtime.run(
                step,
                job,
                folder,
                worker="w",
                attempt=1,
                limits=limits,
                wall_time_s=120.0,
                stop=stop,
            )
        finally:
            stop.close()
        return outcome, (folder / "log.probe").read_text()

    return run_code


@pytest.fixture
def let_through(run: Run) -> Try:
    def tried(tries: str, **fields: Any) -> list[str]:
        outcome, printed = run(TRY.replace("{tries}", tries), **fields)
        assert outcome.exit_code == 0, printed
        done: list[str] = json.loads(printed.splitlines()[-1])
        return done

    return tried


def test_it_cannot_become_root(let_through: Try) -> None:
    tries = """
attempt("setuid")(lambda: os.setuid(0))
attempt("setgid")(lambda: os.setgid(0))
attempt("setresuid")(lambda: os.setresuid(0, 0, 0))
attempt("groups")(lambda: os.setgroups([0]))
def by_file():
    with open("sh", "wb") as out, open("/bin/sh", "rb") as source:
        out.write(source.read())
    os.chown("sh", 0, 0)
    os.chmod("sh", 0o4755)
attempt("a file of root's with the setuid bit")(by_file)
def by_program():
    import subprocess
    for program in ("/bin/su", "/bin/mount", "/usr/bin/newgrp"):
        if os.path.exists(program):
            subprocess.run([program, "-c", "id"], input=b"", capture_output=True)
    return b"uid=0" in subprocess.run(["sh", "-c", "su -c id root </dev/null"], capture_output=True).stdout
attempt("a setuid program")(by_program)
attempt("is root")(lambda: os.geteuid() == 0 or os.getuid() == 0)
attempt("a namespace in which it is root")(lambda: ok(libc.unshare(0x10000000)))
"""
    assert let_through(tries) == []


def test_it_cannot_gain_capabilities(let_through: Try) -> None:
    tries = """
def effective():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return any(int(status["Cap" + kind], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"))
attempt("has some")(effective)
attempt("ambient")(lambda: ok(libc.prctl(47, 2, 21, 0, 0)))
attempt("mount")(lambda: ok(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)))
attempt("device")(lambda: os.mknod("/tmp/device", 0o600 | stat.S_IFBLK, os.makedev(8, 0)))
attempt("chroot")(lambda: os.chroot("/tmp"))
attempt("raw socket")(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
attempt("host name")(lambda: ok(libc.sethostname(b"mine", 4)))
attempt("clock")(lambda: __import__("time").clock_settime(0, 0))
attempt("kernel log")(lambda: ok(libc.klogctl(3, ctypes.create_string_buffer(9), 9) < 0))
attempt("sysrq")(lambda: open("/proc/sysrq-trigger", "w"))
attempt("kernel settings")(lambda: open("/proc/sys/kernel/core_pattern", "w"))
attempt("new privileges")(lambda: libc.prctl(39, 0, 0, 0, 0) == 0)
attempt("priority")(lambda: os.nice(-5))
"""
    assert let_through(tries) == []


def test_it_cannot_see_another_jobs_folder(runtime: DockerRuntime, let_through: Try) -> None:
    other = runtime.folder / "other.1"
    other.mkdir()
    (other / "secret").write_text("secret")
    tries = f"""
attempt("list")(lambda: "other.1" in os.listdir({str(runtime.folder)!r}))
attempt("read")(lambda: open({str(other / "secret")!r}))
attempt("lock")(lambda: open({str(runtime.folder / "lock")!r}))
os.symlink({str(other)!r}, "link")
attempt("through a link")(lambda: open("link/secret"))
attempt("through proc")(lambda: open("/proc/1/root" + {str(other / "secret")!r}))
attempt("through dots")(lambda: open("../other.1/secret"))
attempt("processes of others")(lambda: len([p for p in os.listdir("/proc") if p.isdecimal()]) > 3)
attempt("the engine")(lambda: os.stat("/var/run/docker.sock"))
"""
    assert let_through(tries) == []


NETWORK = """
attempt("interfaces")(lambda: sorted(os.listdir("/sys/class/net")) != ["lo"])
def reach(*to):
    with socket.socket() as out:
        out.settimeout(3)
        out.connect(to)
attempt("gateway")(lambda: reach({gateway!r}, 22))
attempt("host")(lambda: reach({host!r}, {port}))
def name():
    socket.getaddrinfo("example.org", 80)
attempt("names")(name)
def multicast():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(b"x", ("8.8.8.8", 53))
attempt("datagram")(multicast)
"""


def test_it_cannot_reach_the_network_unless_its_study_says_so(
    engine: DockerClient, let_through: Try
) -> None:
    server = engine.containers.run(
        "queue-runner/base:latest", ["-m", "http.server", "8000"], entrypoint=["python3"],
        detach=True, network="bridge", labels={"queue-runner.test": "limits"},
    )  # fmt: skip
    try:

        def address() -> str:
            server.reload()
            networks = server.attrs["NetworkSettings"]["Networks"]
            return str(networks["bridge"]["IPAddress"])

        host = eventually(address)
        eventually(lambda: b"Serving" in server.logs() or server.exec_run(
            ["python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 8000))"]
        ).exit_code == 0)  # fmt: skip
        bridge = engine.networks.list(names=["bridge"], greedy=True)[0]
        gateway = bridge.attrs["IPAM"]["Config"][0]["Gateway"]
        tries = NETWORK.format(gateway=gateway, host=host, port=8000)
        assert let_through(tries) == []
        asked = let_through(tries, name="asked", container={"network": "bridge"})
        assert {"interfaces", "host"} <= set(asked)
    finally:
        server.remove(force=True)


def test_it_cannot_exceed_its_memory(run: Run) -> None:
    outcome, _ = run("x = bytearray(1 << 30)", limits=Resources(memory_bytes=64 * MIB))
    assert outcome.ended_by == "out-of-memory"
    fill = "open('/tmp/x', 'wb').write(b'x' * (1 << 28)); print('filled')"
    outcome, printed = run(fill, name="tmp", limits=Resources(memory_bytes=128 * MIB))
    assert "filled" not in printed
    assert outcome.exit_code != 0


def test_it_cannot_exceed_its_cores(run: Run) -> None:
    code = """
import multiprocessing, os, time
def spin(_):
    end = time.monotonic() + 4
    while time.monotonic() < end:
        pass
    return sum(os.times()[:2])
with multiprocessing.get_context("fork").Pool(4) as pool:
    print(sum(pool.map(spin, range(4), chunksize=1)))
"""
    _, printed = run(code)
    assert float(printed.splitlines()[-1]) < 4 * 1.4  # of one core, for four seconds


MANY_PROCESSES = """
import os, sys, threading, time
count = 0
try:
    while count < 6000:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        count += 1
except RuntimeError:
    pass
print(count)
sys.stdout.flush()
os._exit(0)
"""


def test_it_cannot_have_more_processes_than_said(run: Run) -> None:
    _, printed = run(MANY_PROCESSES)
    assert 1000 < int(printed.splitlines()[-1]) <= 4096


WRITE = """
import time
with open({path!r}, "wb") as out:
    for _ in range(300):
        out.write(b"x" * (1 << 20))
        out.flush()
        time.sleep(0.05)
print("all of it")
"""


MANY = """
import os, time
for number in range(100_000):
    os.close(os.open(str(number), os.O_CREAT | os.O_WRONLY))
    if number % 500 == 0:
        time.sleep(0.1)
"""


def test_it_cannot_exceed_its_disk(run: Run) -> None:
    limits = Resources(disk_bytes=20 * MIB)
    outcome, printed = run(WRITE.format(path="large"), limits=limits)
    assert (outcome.ended_by, "all of it" in printed) == ("disk-limit", False)
    _, printed = run(WRITE.format(path="/tmp/large"), name="tmp", limits=limits)
    assert "No space left" in printed
    outcome, _ = run(MANY, name="many", limits=limits)
    assert outcome.ended_by == "disk-limit"


def test_it_cannot_outlive_its_job(run: Run, engine: DockerClient, runtime: DockerRuntime) -> None:
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            open("alive", "w").write(str(time.time()))
            time.sleep(0.1)
    os._exit(0)
while not os.path.exists("alive"):
    time.sleep(0.05)
"""
    outcome, _ = run(code)
    assert outcome.exit_code == 0
    before = (runtime.folder / "work" / "alive").read_text()
    time.sleep(0.5)  # what is tested is that nothing happens
    assert (runtime.folder / "work" / "alive").read_text() == before
    wanted = [f"{leftovers.OWNER}={runtime.folder / 'lock'}"]
    eventually(
        lambda: not engine.containers.list(all=True, filters={"label": wanted}, ignore_removed=True)
    )


def test_it_cannot_outlive_its_worker(tmp_path: Path, engine: DockerClient) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from queue_runner.workers.runtimes.docker import DockerRuntime\n"
        "from queue_runner.workers.runtimes.base import Stop\n"
        "from queue_runner.workers.kinds.base import Step\n"
        "from queue_runner.model import Job, Resources\n"
        "runtime = DockerRuntime(Path(sys.argv[1])); print(runtime.folder, flush=True)\n"
        "folder = runtime.folder / 'work'; folder.mkdir()\n"
        "job = Job('s.1', 's', 1, 'command', {}, {})\n"
        "step = Step('sleep', ('sleep', '600'), 'log.sleep')\n"
        "runtime.run(step, job, folder, worker='w', attempt=1, limits=Resources(),"
        " wall_time_s=None, stop=Stop())\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert worker.stdout is not None
    wanted = [f"{leftovers.OWNER}={worker.stdout.readline().strip()}/lock", "queue-runner.job=s.1"]

    def running() -> list[Any]:
        return engine.containers.list(filters={"label": wanted}, ignore_removed=True)

    eventually(running, within_s=60)
    worker.kill()
    worker.wait()
    worker.stdout.close()
    eventually(lambda: not running(), within_s=60)


def test_it_cannot_write_to_its_image(let_through: Try) -> None:
    tries = """
for folder in ("/", "/usr", "/usr/bin", "/etc", "/var", "/opt", "/home", "/root", "/lib", "/sys", "/proc"):
    attempt(folder)(lambda: open(folder + "/mine", "w"))
attempt("a program")(lambda: open("/bin/sh", "ab"))
attempt("remount")(lambda: ok(libc.mount(None, b"/", None, 32, None)))
"""
    assert let_through(tries) == []
