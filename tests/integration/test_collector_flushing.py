"""What is committed, told, brought onto the disk and acknowledged, in this order."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from queue_runner.brokers import connect
from queue_runner.brokers.base import Broker, Delivery, Message
from queue_runner.collector import restarts
from queue_runner.collector.database import Database
from queue_runner.collector.service import Collector
from queue_runner.errors import FlushFailed
from queue_runner.model import INBOX_QUEUE, CancelRequest, Result, State, StudyRecord
from queue_runner.wire import batch, encode
from tests.integration.system import eventually

STUDY = "s-0123456789"
_SHORT_S = 1.0

#: A collector whose disk never answers, and that says nothing itself.
_STUCK = """
import os, sys, time
os.fdatasync = lambda descriptor: time.sleep(3600)
from queue_runner.brokers import connect
from queue_runner.collector.database import Database
from queue_runner.collector.service import Collector
Collector(connect(sys.argv[1]), Database(sys.argv[2]), lease_s=float(sys.argv[3])).run()
"""


class Disk:
    """Stands in for the system call. `ready`: whether it returns; `broken`: how it fails."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.ready.set()
        self.broken: OSError | None = None
        self.asked = threading.Event()

    def fdatasync(self, descriptor: int) -> None:
        self.asked.set()
        assert self.ready.wait(60.0)
        if self.broken is not None:
            raise self.broken


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/collector.sqlite"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with closing(Database(url)) as database:
        yield database


@pytest.fixture
def disk(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    monkeypatch.setattr(os, "fdatasync", disk.fdatasync)
    yield disk
    disk.ready.set()


@pytest.fixture
def broker(broker_url: str) -> Iterator[Broker]:
    with connect(broker_url) as broker:
        yield broker


class Watched:
    """A collector in this process: how many messages it has acknowledged, and what has ended it."""

    def __init__(self, broker: Broker, database: Database, lease_s: float) -> None:
        self.acknowledged = 0
        self.failed: FlushFailed | None = None
        self._settle = broker.settle
        broker.settle = self._counted  # type: ignore[method-assign, assignment]
        self.collector = Collector(broker, database, lease_s=lease_s)

    def _counted(self, *, done: Sequence[Delivery], **others: Any) -> list[Delivery]:
        self.acknowledged += len(done)
        return self._settle(done=done, **others)

    def run(self) -> None:
        try:
            self.collector.run()
        except FlushFailed as error:
            self.failed = error


@contextmanager
def collecting(broker_url: str, database: Database, lease_s: float = 60.0) -> Iterator[Watched]:
    with connect(broker_url) as broker:
        watched = Watched(broker, database, lease_s)
        thread = threading.Thread(target=watched.run)
        thread.start()
        try:
            yield watched
        finally:
            watched.collector.drain()
            thread.join()


def send(broker: Broker, *indexes: int) -> None:
    study = StudyRecord(STUDY, "s", "command", 10, ("x",), {"study": "s"}, None, "q", 1.0)
    broker.publish([Message(INBOX_QUEUE, encode(study), priority=1)])
    for index in indexes:
        body = batch([encode(result(index))])
        broker.publish([Message(INBOX_QUEUE, body)])


def result(index: int) -> Result:
    return Result(f"{STUDY}.{index:07}", STUDY, index, 1, State.SUCCEEDED, True, {"x": index})


def held(broker: Broker) -> int:
    depth = broker.depth(INBOX_QUEUE)
    return depth.ready + (depth.leased or 0)


def stored(database: Database) -> int:
    return database.counts()["succeeded"]


def test_a_result_is_told_before_and_acknowledged_after_it_is_on_the_disk(
    broker_url: str, broker: Broker, database: Database, disk: Disk
) -> None:
    told = threading.Event()
    disk.ready.clear()
    listening = database.news.listening(lambda studies: told.set())
    with collecting(broker_url, database) as collector, listening:
        send(broker, 0, 1)
        eventually(lambda: stored(database) == 2)
        assert disk.asked.wait(30.0)
        assert told.is_set()
        assert collector.acknowledged == 0
        disk.ready.set()
        eventually(lambda: collector.acknowledged == 3)
    assert held(broker) == 0
    assert stored(database) == 2


def test_where_the_disk_fails_nothing_is_acknowledged_any_more(
    broker_url: str, broker: Broker, database: Database, disk: Disk
) -> None:
    disk.broken = OSError(errno.EIO, os.strerror(errno.EIO))
    with collecting(broker_url, database, _SHORT_S) as collector:
        send(broker, 0)
        eventually(lambda: collector.failed)
    # the kernel would say that all is well when it is asked once more
    disk.broken = None
    with pytest.raises(FlushFailed, match="Input/output error"):
        database.flush()
    assert collector.acknowledged == 0
    eventually(lambda: held(broker) == 2)


def test_what_is_asked_for_over_http_is_on_the_disk_before_the_answer(
    broker_url: str, broker: Broker, database: Database, disk: Disk
) -> None:
    database.apply([StudyRecord(STUDY, "s", "command", 1, ("x",), {}, None, "q", 1.0)])
    collector = Collector(broker, database)
    collector.request(CancelRequest(STUDY, ()))
    assert disk.asked.is_set()
    disk.broken = OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(FlushFailed):
        collector.request(CancelRequest(STUDY, ()))


def test_killed_between_commit_and_disk_it_gets_the_results_again_and_keeps_them_once(
    broker_url: str, broker: Broker, url: str, database: Database
) -> None:
    arguments = [broker_url, url, str(_SHORT_S)]
    with (
        subprocess.Popen([sys.executable, "-c", _STUCK, *arguments]) as stuck,
        ExitStack() as stack,
    ):
        stack.callback(stuck.kill)
        send(broker, 0, 1, 2)
        eventually(lambda: stored(database) == 3)
    with collecting(broker_url, database) as collector:
        eventually(lambda: collector.acknowledged == 4)
    assert stored(database) == 3
    assert [each.index for each in database.results(STUDY)] == [0, 1, 2]
    assert len(database.attempts(result(0).job_id)) == 1


def test_followers_miss_nothing_after_a_power_cut_that_undid_what_they_had_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, start = tmp_path / "collector.sqlite", tmp_path / "boot_id"
    monkeypatch.setattr(restarts, "_START", start)
    start.write_text("first")
    study = StudyRecord(STUDY, "s", "command", 10, ("x",), {}, None, "q", 1.0)
    with closing(Database(f"sqlite:///{file}")) as database:
        database.apply([study, result(0)])
    on_disk = file.read_bytes()
    with closing(Database(f"sqlite:///{file}")) as database:
        database.apply([result(1)])
        seen = database.arrivals(STUDY)
    assert [each.index for each in seen.results] == [0, 1]

    file.write_bytes(on_disk)
    start.write_text("second")
    with closing(Database(f"sqlite:///{file}")) as database:
        # they come again, in another order
        database.apply([result(2)])
        database.apply([result(1)])
        more = database.arrivals(STUDY, cursor=seen.cursor)
        assert [each.index for each in more.results] == [2, 1]
        assert not database.arrivals(STUDY, cursor=more.cursor).results
