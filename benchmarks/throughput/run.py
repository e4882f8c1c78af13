"""Send a study of no-op points through brokers, with every daemon a process of its own.

    .venv/bin/python benchmarks/throughput/run.py --jobs 100000 redis://localhost amqp://localhost zmq

`zmq` starts a ZeroMQ server for the occasion; `redis` and `rabbitmq` take throwaway servers from
`queue_runner.testing`. Prints, for each broker: jobs per second from the start of the submission to the
last result in the collector's database, the peak resident memory of client, worker, collector and server,
and whether every job is in the table exactly once. `--json FILE` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).parent
PROGRAM = str(Path(sys.executable).with_name("queue-runner"))
STUDY = """\
study: noop
kind: python
parameters:
  x: {{range: {{from: 0, to: {last}, step: 1}}}}
python:
  files: .
  call: noop:noop
"""


class Daemon:
    """A queue-runner process; remembers the most memory it was seen to use."""

    def __init__(self, name: str, arguments: list[str], log: Path, env: dict[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [PROGRAM, *arguments], stdout=out, stderr=subprocess.STDOUT, env=env
            )

    def peak_mib(self) -> float:
        """VmHWM of the process itself; a worker's warm Python children are not part of the daemon."""
        if self.process.poll() is not None:
            raise SystemExit(f"{self.name} ended early:\n{self.log.read_text()[-2000:]}")
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", text)
        return int(found.group(1)) / 1024 if found else 0.0

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@contextmanager
def system(
    url: str, folder: Path, cores: int
) -> Iterator[tuple[dict[str, Daemon], dict[str, str]]]:
    with ExitStack() as stack:
        env = {
            **os.environ,
            "QUEUE_RUNNER_COLLECTOR": f"http://127.0.0.1:{free_port()}",
            "QUEUE_RUNNER_STORE": (folder / "store").as_uri(),
            "QUEUE_RUNNER_TOKEN_FILE": str(folder / "token"),
            "XDG_DATA_HOME": str(folder),
        }
        (folder / "token").write_text(uuid.uuid4().hex)
        daemons: dict[str, Daemon] = {}

        def start(name: str, *arguments: str) -> None:
            daemon = Daemon(name, list(arguments), folder / f"{name}.log", env)
            daemons[name] = daemon
            stack.callback(daemon.stop)

        if url == "zmq":
            url = f"zmq+tcp://127.0.0.1:{free_port()}"
            start("server", "broker", "--listen", url, "--journal", str(folder / "broker.sqlite"))
        env["QUEUE_RUNNER_BROKER"] = url
        address = env["QUEUE_RUNNER_COLLECTOR"].removeprefix("http://")
        start("collector", "collector", "--listen", address, "--database", str(folder / "c.sqlite"))
        start("worker", "worker", "--cores", str(cores), "--scratch", str(folder / "scratch"))
        await_collector(daemons, env)
        yield daemons, env


def await_collector(daemons: dict[str, Daemon], env: dict[str, str]) -> None:
    while query(["status", "--json"], env) is None:
        for daemon in daemons.values():
            daemon.peak_mib()
        time.sleep(0.1)


def query(arguments: list[str], env: dict[str, str]) -> dict[str, object] | None:
    asked = subprocess.run([PROGRAM, *arguments], env=env, capture_output=True, check=False)
    if asked.returncode != 0:
        return None
    answer: dict[str, object] = json.loads(asked.stdout)
    return answer


def measure(url: str, jobs: int, cores: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="queue-runner-bench-") as name:
        folder = Path(name)
        shutil.copy(HERE / "noop.py", folder / "noop.py")
        (folder / "study").mkdir()
        shutil.copy(HERE / "noop.py", folder / "study" / "noop.py")
        study = folder / "study" / "study.yaml"
        study.write_text(STUDY.format(last=jobs - 1))
        with system(url, folder, cores) as (daemons, env):
            peaks: dict[str, float] = {}
            began = time.monotonic()
            client = Daemon("client", ["submit", str(study), "--json"], folder / "client.log", env)
            submitted_s = None
            while True:
                if submitted_s is None and client.process.poll() is None:
                    peaks["client"] = max(peaks.get("client", 0), client.peak_mib())
                elif submitted_s is None:
                    submitted_s = time.monotonic() - began
                    if client.process.returncode:
                        raise SystemExit(client.log.read_text())
                for key, daemon in daemons.items():
                    peaks[key] = daemon.peak_mib()
                if submitted_s is not None and finished(env) >= jobs:
                    break
                time.sleep(0.05 if submitted_s is None else 0.5)
            elapsed_s = time.monotonic() - began
            rows = unique_rows(env)
    return {
        "broker": url.split(":")[0],
        "jobs": jobs,
        "in_table_once": rows == list(range(jobs)),
        "submit_per_s": round(jobs / submitted_s),
        "jobs_per_s": round(jobs / elapsed_s),
        "peak_mib": {key: round(value) for key, value in sorted(peaks.items())},
    }


def finished(env: dict[str, str]) -> int:
    answer = query(["status", "--json"], env)
    studies = answer["studies"] if answer else []
    assert isinstance(studies, list)
    return studies[0]["succeeded"] + studies[0]["failed"] if studies else 0


def unique_rows(env: dict[str, str]) -> list[int]:
    asked = subprocess.run(
        [PROGRAM, "results", "noop", "--format", "json"], env=env, capture_output=True, check=True
    )
    return [row["y"] for row in json.loads(asked.stdout)]


@contextmanager
def throwaway(name: str) -> Iterator[str]:
    """A server for this measurement alone, or the URL as it is."""
    if name not in ("redis", "rabbitmq"):
        yield name
        return
    from queue_runner.testing.servers import start_server

    with start_server(name) as server:
        yield server.url


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    parser.add_argument("brokers", nargs="+", help="zmq, redis, rabbitmq, or the URL of a server")
    options = parser.parse_args()
    figures = []
    for name in options.brokers:
        with throwaway(name) as url:
            figure = measure(url, options.jobs, options.cores)
        figures.append(figure)
        print(json.dumps(figure), flush=True)
    if options.json:
        machine = {"python": platform.python_version(), "cores": os.cpu_count()}
        options.json.write_text(json.dumps({"machine": machine, "figures": figures}, indent=2))


if __name__ == "__main__":
    main()
