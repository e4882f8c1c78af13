"""A whole system of real processes on a real broker server, the sweeps that it runs, and the end of it.

with rig(folder, server.part("mine"), server) as it:
    it.start_collector(); it.start_worker("one")
    sweep = it.submit("sweep", jobs=300)
    for _ in moments.during([sweep], 3):
        ...a fault...
    it.judge(sweep, Expected(lost=3))
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from queue_runner.brokers import connect
from queue_runner.collector.database import Database
from queue_runner.errors import NotFound
from queue_runner.model import INBOX_QUEUE, job_queue
from queue_runner.workers import health
from tests.faults import leftovers, verdict
from tests.faults.servers import FaultServer
from tests.faults.sweep import Sweep, write_sweep
from tests.faults.verdict import Expected
from tests.integration.system import PROGRAM, System, eventually

#: Seconds: a claim that is not renewed comes back after so long.
LEASE_S = 4.0
#: The whole of a sweep, on a machine that is busy with other things as well.
SWEEP_S = 240.0
#: Of a daemon, where a test failed.
_LOG_LINES = 60


class Rig(System):
    """`prefix` is this system's part of `server`; `database` the URL of its collector's database."""

    def __init__(self, folder: Path, url: str, server: FaultServer, prefix: str) -> None:
        super().__init__(folder, url)
        self.url, self.server, self.prefix = url, server, prefix
        self.database = f"sqlite:///{folder}/collector.sqlite"
        self.scratch, self.temporary = folder / "scratch", folder / "tmp"
        self.temporary.mkdir()
        self.env["TMPDIR"] = str(self.temporary)

    @cached_property
    def records(self) -> Database:
        """The collector's database, opened once: opening one takes its write lock."""
        return Database(self.database)

    # -- daemons -----------------------------------------------------------------------------------

    def launch_collector(self, database: str | None = None) -> None:
        """One with a short lease, on this system's database."""
        address = self.env["QUEUE_RUNNER_COLLECTOR"].removeprefix("http://")
        where = ["--listen", address, "--database", database or self.database]
        self.start("collector", "collector", *where, "--lease", f"{LEASE_S:g}")

    def start_worker(
        self, name: str = "worker", *options: str, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """One with four places and a short lease, and no grace for what runs when it is stopped."""
        common = ["--name", name, "--cores", "4", "--lease", f"{LEASE_S:g}", "--grace", "0"]
        where = ["--scratch", str(self.scratch)]
        with (self.folder / f"{name}.log").open("ab") as out:
            process = subprocess.Popen(
                [PROGRAM, "worker", *common, *where, *options],
                cwd=self.folder, env={**self.env, **(env or {})}, stdout=out, stderr=out,
            )  # fmt: skip
        self.daemons[name] = process
        return process

    def await_worker(self, name: str) -> None:
        """Wait until the collector has heard of it: it works."""
        eventually(lambda: name in self.ok("status"), within_s=60)

    def kill(self, name: str) -> None:
        """SIGKILL to a daemon; nothing of it runs any more when this returns, but what it started."""
        self.daemons[name].kill()
        self.daemons[name].wait()

    def drain(self, name: str) -> None:
        """SIGTERM to a worker, which ends with 0."""
        self._await_working(name)
        self.daemons[name].send_signal(signal.SIGTERM)
        code = self.daemons[name].wait(60)
        assert code == 0, f"{name} exited {code}:\n{self.log(name)[-3000:]}"

    def freeze(self, name: str) -> None:
        """SIGSTOP to a daemon alone: its jobs go on."""
        self.daemons[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self.daemons[name].send_signal(signal.SIGCONT)

    # -- sweeps ------------------------------------------------------------------------------------

    def submit(
        self,
        name: str = "sweep",
        *,
        jobs: int = 300,
        kind: str = "command",
        shortest_s: float = 0.05,
        longest_s: float = 0.8,
        retries: int = 0,
    ) -> Sweep:
        """Write a sweep's study and hand its jobs to the broker."""
        return self.hand_over(
            write_sweep(self.folder, name, jobs, kind, shortest_s, longest_s, retries)
        )

    def hand_over(self, sweep: Sweep) -> Sweep:
        """Submit a sweep, or what of it was not submitted before."""
        printed = self.ok("submit", str(sweep.folder / "study/study.yaml"), "--json")
        return replace(sweep, study=json.loads(printed)["study"])

    def finals(self, sweep: Sweep) -> dict[str, tuple[int, str]]:
        """Attempt and worker of each job's final result."""
        found = verdict.all_results(self.records, sweep.study)
        return {result.job_id: (result.attempt, result.worker) for result in found}

    def finished(self, sweep: Sweep) -> int:
        """How many jobs have a final result."""
        try:
            status = self.records.status(sweep.study)
        except NotFound:  # the collector has not heard of it yet
            return 0
        return status.succeeded + status.failed + status.cancelled

    # -- the end -----------------------------------------------------------------------------------

    def logs(self) -> dict[str, str]:
        """The end of what each daemon wrote, by the name of its file."""
        files = sorted(self.folder.glob("*.log"))
        return {path.name: "".join(_lines(path)[-_LOG_LINES:]) for path in files}

    def judge(self, *sweeps: Sweep, expected: Expected, within_s: float = SWEEP_S) -> None:
        """Wait for the sweeps, then assert what the tests here promise of every one of them."""
        for sweep in sweeps:
            eventually(lambda sweep=sweep: self.finished(sweep) >= sweep.jobs, within_s)  # type: ignore[misc]
        self._await_working(*self._living_workers())
        self._await_empty_queues()
        for sweep in sweeps:
            verdict.check(self.records, sweep, expected, exact=self.server.exact)
        self._await_heard()
        self.stop()
        self.await_nothing_left()

    def _await_working(self, *names: str) -> None:
        """A worker that was started just now would be ended by a SIGTERM before it heeds any."""

        def working() -> bool:
            telling = {report["worker"] for report in health.ask(self.scratch)}
            return set(names) <= telling

        eventually(working, within_s=60)

    def _await_heard(self) -> None:
        """What is broadcast arrives again, whatever connections were cut."""
        asked_at = time.monotonic()

        def heard() -> bool:
            ages = {status.worker: status.age_s for status in self.records.workers()}
            since_s = time.monotonic() - asked_at
            return all(ages.get(name, since_s) < since_s for name in self._living_workers())

        eventually(heard, within_s=60)

    def _living_workers(self) -> set[str]:
        living = {name for name, daemon in self.daemons.items() if daemon.poll() is None}
        return living - {"collector"}

    def _await_empty_queues(self) -> None:
        def left() -> list[object]:
            with connect(self.url) as broker:
                depths = {name: broker.depth(name) for name in (job_queue("default"), INBOX_QUEUE)}
            return [
                item
                for item in depths.items()
                if any((item[1].ready, item[1].delayed, item[1].leased, item[1].dead))
            ]

        leftovers.await_none("messages in the queues", left)

    def await_nothing_left(self) -> None:
        """Assert that the daemons, which have ended, left nothing here or on the server."""
        leftovers.await_none("processes", lambda: leftovers.processes(self.folder))
        leftovers.await_none("containers", lambda: leftovers.containers(self.scratch))
        leftovers.await_none("files", lambda: leftovers.files(self.scratch, self.temporary))
        leftovers.await_none(
            "contents of the server", lambda: list(self.server.contents(self.prefix).items())
        )


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines(keepends=True)


@contextmanager
def rig(folder: Path, server: FaultServer, prefix: str, options: str = "") -> Iterator[Rig]:
    """`options`: more of the broker's URL, as `&heartbeat=5`. Ends every daemon, whatever happened."""
    made = Rig(folder, server.part(prefix) + options, server, prefix)
    try:
        yield made
    finally:
        for daemon in made.daemons.values():
            if daemon.poll() is None:
                os.kill(daemon.pid, signal.SIGKILL)
                daemon.wait()
        leftovers.end(folder)
        if "records" in vars(made):
            made.records.close()


WORKERS = ("one", "two")


def start_sweeps(system: Rig, longest_s: float = 0.8) -> list[Sweep]:
    """A collector, two sweeps that wait with the broker, and then two workers, four jobs at a time each."""
    system.start_collector()
    sweeps = [
        system.submit("shell", jobs=200, longest_s=longest_s),
        system.submit("calls", jobs=100, kind="python"),
    ]
    for name in WORKERS:
        system.start_worker(name)
    return sweeps
