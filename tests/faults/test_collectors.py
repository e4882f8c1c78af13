"""A collector that is killed, and a database that is locked, full or restarted, in the midst of a sweep."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from queue_runner.brokers import connect
from queue_runner.collector import schema
from queue_runner.model import INBOX_QUEUE
from tests.faults.moments import Moments
from tests.faults.rig import Rig
from tests.faults.servers import named
from tests.faults.verdict import Expected
from tests.integration.postgres import running_postgres
from tests.integration.system import eventually

pytestmark = [pytest.mark.containers, pytest.mark.timeout(400)]

#: What does not depend on the broker is tried with one.
one_broker = pytest.mark.parametrize("server", named("redis"), indirect=True)


def test_nothing_is_lost_with_a_killed_collector(system: Rig, moments: Moments) -> None:
    system.start_collector()
    sweep = system.submit(jobs=300, shortest_s=0.2, longest_s=1.0)
    system.start_worker()
    for _ in moments.during([sweep], 4):
        system.kill("collector")
        # where it is killed again before it answers, that is a moment like any other
        system.launch_collector()
    eventually(lambda: system.call("status").returncode == 0, within_s=120)
    system.judge(sweep, expected=Expected())


def test_killed_when_it_has_received_and_when_it_has_committed(
    system: Rig, moments: Moments
) -> None:
    """Before the commit, and after it and before the acknowledgement, in turns."""
    with running_postgres() as postgres:
        system.database = postgres.new_database()
        system.start_collector()
        sweep = system.submit(jobs=300, shortest_s=0.2, longest_s=1.0)
        system.start_worker()
        for number in moments.during([sweep], 4):
            before = system.finished(sweep)
            with closing(Lock(system.database)) as lock:
                eventually(lock.holds_up, within_s=60)
                if number % 2:
                    system.server.pause()
                    lock.close()
                    eventually(lambda before=before: system.finished(sweep) > before)  # type: ignore[misc]
                system.kill("collector")
            if number % 2:
                system.server.resume()
            system.launch_collector()
        system.judge(sweep, expected=Expected(lost=2))


@one_broker
def test_a_database_that_is_locked_for_longer_than_a_lease(system: Rig) -> None:
    system.start_collector()
    sweep = system.submit(jobs=100)
    system.start_worker()
    eventually(lambda: system.finished(sweep) > 0)
    engine = create_engine(system.database)
    with engine.connect() as other:
        other.execute(text("BEGIN IMMEDIATE"))
        eventually(lambda: "results wait for the database" in system.log("collector"), within_s=90)
        assert sweep.ended() == sweep.jobs
        assert system.finished(sweep) < sweep.jobs
        other.rollback()
    engine.dispose()
    system.judge(sweep, expected=Expected())


@one_broker
@pytest.mark.root
def test_a_full_disk(system: Rig) -> None:
    with small_disk(system.folder / "disk") as disk:
        system.database = f"sqlite:///{disk}/collector.sqlite"
        system.start_collector()
        sweep = system.submit(jobs=100)
        filling = fill(disk)
        system.start_worker()
        eventually(lambda: sweep.ended() == sweep.jobs, within_s=100)
        eventually(lambda: "full" in system.log("collector"))
        before = system.finished(sweep)
        with connect(system.url) as broker:
            depth = broker.depth(INBOX_QUEUE)
        assert before < sweep.jobs
        assert depth.ready + (depth.leased or 0) > 0
        filling.unlink()
        system.judge(sweep, expected=Expected())


@one_broker
def test_postgresql_restarted_and_killed(system: Rig, moments: Moments) -> None:
    with running_postgres() as postgres:
        system.database = postgres.new_database()
        system.start_collector()
        sweep = system.submit(jobs=200)
        system.start_worker()
        for number in moments.during([sweep], 4):
            postgres.stop("fast" if number % 2 else "immediate")
            postgres.start()
        system.judge(sweep, expected=Expected())


class Lock:
    """Keeps others from adding results to a PostgreSQL database; they may be read. Held from the start."""

    def __init__(self, database: str) -> None:
        self._engine: Engine = schema.open_engine(database)
        self._connection = self._engine.connect()
        self._connection.execute(text("LOCK TABLE result IN EXCLUSIVE MODE"))

    def holds_up(self) -> bool:
        """Whether somebody waits who would add some."""
        asked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'result'::regclass"
        return bool(self._connection.execute(text(asked)).scalar())

    def close(self) -> None:
        """Idempotent."""
        self._connection.close()
        self._engine.dispose()


@contextmanager
def small_disk(where: Path) -> Iterator[Path]:
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room on it."""
    path = disk / "filling"
    with path.open("wb", buffering=0) as file:
        while shutil.disk_usage(disk).free:
            file.write(bytes(4096))
    return path
