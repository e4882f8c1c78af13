"""Results over an answer of the collector that stays open: each once, and none late."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_runner.client import following
from queue_runner.client.client import Client
from queue_runner.client.http import HttpRecords
from queue_runner.collector import following as sending
from queue_runner.collector.database import Database
from queue_runner.collector.http import make_app
from queue_runner.collector.metrics import Metrics
from queue_runner.collector.routes import Api
from queue_runner.collector.server import HttpServer
from queue_runner.collector.service import Counters
from queue_runner.errors import CollectorRefused, CollectorUnavailable
from queue_runner.http import Response, Session
from queue_runner.model import Result, State, StudyRecord
from tests.integration.system import eventually

STUDY, TOKEN, JOBS = "s-0123456789", "a-token", 60
THREAD = "following"


def result(index: int) -> Result:
    return Result(f"{STUDY}.{index:07}", STUDY, index, 1, State.SUCCEEDED, True, {"x": index})


def followers() -> int:
    return sum(thread.name == THREAD for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    eventually(lambda: followers() == 0)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(f"sqlite:///{tmp_path}/c.sqlite")) as opened:
        opened.apply([StudyRecord(STUDY, "s", "command", JOBS, ("x",), {}, None, "q", 1.0)])
        yield opened


@pytest.fixture
def server(database: Database) -> Iterator[HttpServer]:
    app = make_app(Api(database, lambda request: None), Metrics(database, Counters()), TOKEN)
    opened = HttpServer(app, "127.0.0.1", 0)
    opened.start()
    yield opened
    database.news.close()
    opened.stop()


class Asking:
    """Counts what is asked, and not what comes over an open answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        request = Session.request

        def counting(
            session: Session, method: str, path: str, *more: Any, **named: Any
        ) -> Response:
            self.count += 1
            return request(session, method, path, *more, **named)

        monkeypatch.setattr(Session, "request", counting)


class Follower:
    """Who asks for what comes after what came."""

    def __init__(self, records: HttpRecords, database: Database) -> None:
        self._records, self._database = records, database
        self.cursor, self.came, self.done = 0, list[int](), False
        self._applied = 0

    def one_more(self) -> None:
        """A result, and the question for it; alternately it is there before, or comes later."""
        index = self._applied
        self._applied += 1
        if index % 2:
            self._database.apply([result(index)])
            self.ask()
            return
        late = threading.Timer(0.01, self._database.apply, [[result(index)]])
        late.start()
        self.ask()
        late.join()

    def ask(self) -> None:
        had = len(self.came)
        while len(self.came) == had and not self.done:
            arrived = self._records.arrivals(STUDY, cursor=self.cursor, wait_s=20.0)
            self.cursor, self.done = arrived.cursor, arrived.done
            self.came += [each.index for each in arrived.results]

    def until_followed(self, asking: Asking) -> None:
        """Until a result came that was not asked for."""
        while len(self.came) < JOBS // 2:
            before = asking.count
            self.one_more()
            if asking.count == before:
                return
            threading.Event().wait(0.01)  # it begins while others wait
        raise AssertionError("all had to be asked for")


@pytest.fixture
def records(server: HttpServer) -> Iterator[HttpRecords]:
    with closing(HttpRecords(server.url, TOKEN)) as opened:
        yield opened


def test_results_come_without_questions(
    records: HttpRecords, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking, follower = Asking(monkeypatch), Follower(records, database)
    follower.until_followed(asking)
    asked = asking.count
    while len(follower.came) < JOBS:
        follower.one_more()
    follower.ask()
    assert follower.done
    assert follower.came == list(range(JOBS))
    assert asking.count == asked
    eventually(lambda: followers() == 0)


def test_nothing_for_a_while_is_no_end(
    records: HttpRecords, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "BEAT_S", 0.01)
    asking, follower = Asking(monkeypatch), Follower(records, database)
    follower.until_followed(asking)
    asked = asking.count
    arrived = records.arrivals(STUDY, cursor=follower.cursor, wait_s=0.5)
    assert (list(arrived.results), arrived.cursor, arrived.done) == ([], follower.cursor, False)
    follower.one_more()
    assert asking.count == asked
    assert follower.came == list(range(len(follower.came)))


def test_an_answer_does_not_last_for_ever(
    records: HttpRecords, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "LASTS_S", 0.05)
    follower = Follower(records, database)
    while len(follower.came) < JOBS:
        follower.one_more()
    assert follower.came == list(range(JOBS))


def test_who_takes_nothing_is_no_longer_sent_any(
    records: HttpRecords, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "BEAT_S", 0.01)
    monkeypatch.setattr(following, "_UNTAKEN_S", 0.1)
    asking, follower = Asking(monkeypatch), Follower(records, database)
    follower.until_followed(asking)
    eventually(lambda: followers() == 0)
    eventually(lambda: not database.news._listening)
    follower.one_more()
    assert follower.came == list(range(len(follower.came)))


def test_two_at_different_places_get_all_of_it(
    records: HttpRecords, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Follower(records, database)
    first.until_followed(Asking(monkeypatch))
    behind = Follower(records, database)
    behind.ask()
    while len(first.came) < JOBS:
        first.one_more()
        behind.ask()
    assert first.came == behind.came == list(range(JOBS))


def test_what_is_there_already_comes_in_pages(server: HttpServer, database: Database) -> None:
    count = 5500
    database.apply([StudyRecord("t-1", "t", "command", count, ("x",), {}, None, "q", 2.0)])
    database.apply(
        [Result(f"t-1.{n:07}", "t-1", n, 1, State.SUCCEEDED, True, {"x": n}) for n in range(count)]
    )
    with closing(HttpRecords(server.url, TOKEN)) as records:
        client = Client.over(records, None, "file:///nowhere")
        came = [each.index for each in client.handle("t").as_completed(30.0)]
    assert came == list(range(count))


def test_a_collector_that_stops_ends_it(
    server: HttpServer,
    records: HttpRecords,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    follower = Follower(records, database)
    follower.until_followed(Asking(monkeypatch))
    database.news.close()
    server.stop()
    with pytest.raises(CollectorUnavailable):
        records.arrivals(STUDY, cursor=follower.cursor, wait_s=20.0)


def test_where_too_many_follow_the_others_ask(
    records: HttpRecords, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "most_connections", lambda: 2)
    follower = Follower(records, database)
    asking = Asking(monkeypatch)
    follower.until_followed(asking)
    with closing(HttpRecords(records.url, TOKEN)) as others:
        other = Follower(others, database)
        other.ask()
        while len(follower.came) < JOBS:
            follower.one_more()
            before = asking.count
            other.ask()
            assert asking.count > before or other.came == follower.came
    assert other.came == follower.came == list(range(JOBS))


def test_who_has_hung_up_is_not_waited_for(server: HttpServer, database: Database) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    path = f"{server.url}/v1/studies/s/arrivals"
    for _ in range(3):
        query = "format=parts"
        with httpx.stream("GET", f"{path}?{query}", headers=headers) as answer:
            assert answer.headers["x-accel-buffering"] == "no"
            parts = answer.iter_raw()
            assert next(parts)
            eventually(lambda: database.news._listening)
        eventually(lambda: not database.news._listening)


# -- what lies between -------------------------------------------------------------------------------


@contextmanager
def between(url: str, passes: Callable[[bytes], tuple[bytes, bool]]) -> Iterator[str]:
    """A way to a server. `passes` is given what comes back on connections whose answer is to stay open, and
    says what is sent on, and whether the connection lives on.
    """
    address = url.removeprefix("http://").split(":")
    listening = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = [listening]

    def forward(near: socket.socket, far: socket.socket, open_: threading.Event) -> None:
        while data := _received(near):
            if b"format=parts" in data:
                open_.set()
            with suppress(OSError):  # which the next look tells, too
                far.sendall(data)
        _cut(near, far)

    def back(near: socket.socket, far: socket.socket, open_: threading.Event) -> None:
        lives = True
        while lives and (data := _received(far)):
            if open_.is_set():
                data, lives = passes(data)
            with suppress(OSError):
                near.sendall(data)
        _cut(near, far)

    def accept() -> None:
        while True:
            try:
                near, _ = listening.accept()
            except OSError:
                return
            far = socket.create_connection((address[0], int(address[1])))
            sockets.extend((near, far))
            open_ = threading.Event()
            for way in (forward, back):
                start(way, near, far, open_)

    def start(target: Callable[..., None], *arguments: object) -> None:
        threads.append(threading.Thread(target=target, args=arguments))
        threads[-1].start()

    start(accept)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    _cut(listening)
    threads[0].join()
    _cut(*sockets)
    for thread in threads:
        thread.join()
    for each in sockets:
        each.close()


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except OSError:
        return b""


def _cut(*connections: socket.socket) -> None:
    for each in connections:
        with suppress(OSError):  # it may have gone already
            each.shutdown(socket.SHUT_RDWR)


def test_what_is_cut_off_is_asked_for(server: HttpServer, database: Database) -> None:
    chance, cuts = random.Random(7), 0

    def cutting(data: bytes) -> tuple[bytes, bool]:
        nonlocal cuts
        if chance.random() < 0.8:
            return data, True
        cuts += 1
        return data[: len(data) // 2], False

    with between(server.url, cutting) as url, closing(HttpRecords(url, TOKEN)) as records:
        follower = Follower(records, database)
        while len(follower.came) < JOBS:
            follower.one_more()
    assert follower.came == list(range(JOBS))
    assert cuts > 1


def test_what_is_kept_back_is_asked_for(
    server: HttpServer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = bytearray()

    def keeping(data: bytes) -> tuple[bytes, bool]:
        kept.extend(data)
        return b"", True

    asking = Asking(monkeypatch)
    with between(server.url, keeping) as url, closing(HttpRecords(url, TOKEN)) as records:
        follower = Follower(records, database)
        while len(follower.came) < JOBS:
            follower.one_more()
    assert follower.came == list(range(JOBS))
    assert kept
    assert asking.count >= JOBS


def test_an_older_collector_is_asked(
    records: HttpRecords, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Session.stream

    def unknown(session: Session, method: str, path: str, query: Mapping[str, object]) -> Any:
        return stream(session, method, path, {**query, "unheard": "of"})

    monkeypatch.setattr(Session, "stream", unknown)
    follower = Follower(records, database)
    while len(follower.came) < JOBS:
        follower.one_more()
    assert follower.came == list(range(JOBS))


BODIES = st.lists(st.binary(max_size=50), max_size=8)


@given(BODIES, st.lists(st.integers(0, 500), max_size=12))
def test_parts_are_the_same_however_they_come(bodies: list[bytes], places: list[int]) -> None:
    sent = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    cuts = sorted({0, len(sent), *(place % (len(sent) + 1) for place in places)})
    pieces = [sent[first:last] for first, last in pairwise(cuts)]
    assert list(following.parts(iter(pieces))) == bodies


def test_a_part_without_end_is_refused() -> None:
    with pytest.raises(CollectorRefused, match="a part of 4294967299 bytes"):
        list(following.parts(iter([b"\xff\xff\xff\xff" + b"x" * 100])))
