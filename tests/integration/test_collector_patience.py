"""Clients that send or read slowly, or too much: they neither stay for ever nor keep others out."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from queue_runner.collector import bodies, patience
from queue_runner.collector.database import Database
from queue_runner.collector.http import make_app
from queue_runner.collector.metrics import Counters, Metrics
from queue_runner.collector.routes import Api
from queue_runner.collector.server import HttpServer
from queue_runner.model import CancelRequest, Result, RetryRequest, State, StudyRecord
from tests.integration.system import eventually

TOKEN = "a-token-of-these-tests"
STUDY = "s-0123456789"
GET = f"GET /v1/studies HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpServer]:
    monkeypatch.setattr(patience, "REQUEST_S", 1.5)
    monkeypatch.setattr(patience, "DRAIN_S", 1.0)
    monkeypatch.setattr(bodies, "GRACE_S", 1.0)
    monkeypatch.setattr(bodies, "BYTES_PER_S", 2**40)
    database = Database(f"sqlite:///{tmp_path}/collector.sqlite")

    def tell(request: CancelRequest | RetryRequest) -> None:
        database.apply([request])

    app = make_app(Api(database, tell), Metrics(database, Counters()), TOKEN)
    served = HttpServer(app, "127.0.0.1", 0)
    served.start()
    _fill(database)
    yield served
    served.stop()
    database.close()


def _fill(database: Database) -> None:
    count = 2000
    study = StudyRecord(STUDY, "s", "command", count, ("x",), {}, None, "q", 1.0)
    database.apply([study])
    text = "x" * 4000
    for start in range(0, count, 500):
        database.apply(
            [
                Result(f"{STUDY}.{i:07}", STUDY, i, 1, State.SUCCEEDED, True, {"x": text}, {})
                for i in range(start, start + 500)
            ]
        )


def _connect(server: HttpServer) -> socket.socket:
    port = int(server.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), 30)


def _open(server: HttpServer) -> int:
    """Connections that the server's side has."""
    port = int(server.url.rpartition(":")[2])
    return sum(
        each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED
        for each in psutil.Process().net_connections("tcp")
    )


def _trickle(connection: socket.socket, piece: bytes, pause_s: float = 0.1) -> bytes:
    """Send `piece` again and again until the server hangs up; returns what it said."""
    said = b""
    connection.settimeout(pause_s)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            connection.sendall(piece)
            heard = connection.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            return said
        if not heard:
            return said
        said += heard
    raise AssertionError(f"still connected after a minute; the server said {said!r}")


def test_who_says_nothing_is_hung_up_on(server: HttpServer) -> None:
    with _connect(server) as connection:
        assert connection.recv(1) == b""


def test_headers_that_come_drop_by_drop_do_not_come_for_ever(server: HttpServer) -> None:
    with _connect(server) as connection:
        connection.sendall(GET.encode())
        assert b"200" not in _trickle(connection, b"x: y\r\n")


def test_nor_does_a_second_request_on_one_connection(server: HttpServer) -> None:
    with _connect(server) as connection:
        connection.sendall(f"{GET}\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        _trickle(connection, b"G")


def test_a_body_that_comes_drop_by_drop_is_too_slow(server: HttpServer) -> None:
    head = GET.replace("GET /v1/studies", f"POST /v1/studies/{STUDY}/cancel")
    with _connect(server) as connection:
        connection.sendall(f"{head}content-length: 1000000\r\n\r\n".encode())
        said = _trickle(connection, b" ")
    assert said.startswith(b"HTTP/1.1 408")
    assert b"too-slow" in said


def test_who_has_no_token_is_answered_before_the_body_and_hung_up_on(server: HttpServer) -> None:
    head = f"POST /v1/studies/{STUDY}/cancel HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n"
    with _connect(server) as connection:
        connection.sendall(head.encode())
        assert _trickle(connection, b" ").startswith(b"HTTP/1.1 401")


def test_who_does_not_read_is_hung_up_on(server: HttpServer) -> None:
    with _connect(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = GET.replace("/v1/studies", f"/v1/studies/{STUDY}/results?format=csv")
        connection.sendall(f"{head}\r\n".encode())
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        eventually(lambda: _open(server) == 0, within_s=60)


def test_who_reads_gets_all_of_it_however_long_that_takes(server: HttpServer) -> None:
    """Longer than a request may take to come."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    url = f"{server.url}/v1/studies/{STUDY}/results?format=csv"
    begun, length = time.monotonic(), 0
    with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
        for chunk in answer.iter_raw(262_144):
            length += len(chunk)
            time.sleep(0.08)
    assert time.monotonic() - begun > patience.REQUEST_S
    assert length > 2000 * 4000


def test_many_slow_ones_keep_nobody_out(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "MAX_CONNECTIONS", 20)
    monkeypatch.setattr(patience, "REQUEST_S", 600.0)
    slow = [_connect(server) for _ in range(100)]
    try:
        for connection in slow[-20:]:
            connection.sendall(b"GET /")
        headers = {"authorization": f"Bearer {TOKEN}"}
        for _ in range(10):
            assert httpx.get(f"{server.url}/v1/studies", headers=headers, timeout=30).is_success
        eventually(lambda: _open(server) <= 20)
    finally:
        for connection in slow:
            connection.close()


def test_headers_have_a_size(server: HttpServer) -> None:
    with _connect(server) as connection:
        connection.sendall(GET.encode())
        said = _trickle(connection, b"x: " + b"y" * 8000 + b"\r\n", pause_s=0.02)
    assert said.startswith(b"HTTP/1.1 400")


_POST = GET.replace("GET /v1/studies", f"POST /v1/studies/{STUDY}/cancel")
_CHUNKED = f"{_POST}transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "endless"),
    [
        ("GET /", "x" * 8000),
        (f"{GET}x: ", "y" * 8000),
        (GET, "y" * 8000),
        (_CHUNKED, "1;" + "x" * 8000),
        (f"{_CHUNKED}1", ";" + "x" * 8000),
        (f"{_CHUNKED}0\r\n", "x: " + "y" * 8000 + "\r\n"),
        (f"{_CHUNKED}0\r\nx: ", "y" * 8000),
        (f"{GET}transfer-encoding: chunked\r\n\r\n", "x" * 8000),
    ],
)
def test_what_is_no_body_has_a_size(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch, begin: str, endless: str
) -> None:
    monkeypatch.setattr(patience, "REQUEST_S", 600.0)
    monkeypatch.setattr(bodies, "GRACE_S", 600.0)
    begun = time.monotonic()
    with _connect(server) as connection:
        connection.sendall(begin.encode())
        said = _trickle(connection, endless.encode(), pause_s=0.02)
    assert b" 200 " not in said.partition(b"\r\n")[0] or begin.startswith(GET)
    assert time.monotonic() - begun < 60
    eventually(lambda: _open(server) == 0)


def test_requests_that_wait_for_others_are_few(server: HttpServer) -> None:
    with _connect(server) as connection:
        connection.sendall(f"{GET}\r\n".encode() * 1000)
        said = b""
        while heard := _received(connection):
            said += heard
    assert said.count(b"HTTP/1.1 200") <= patience.MAX_PIPELINED + 1
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert httpx.get(f"{server.url}/v1/studies", headers=headers, timeout=30).is_success


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionError:
        return b""


def test_a_few_requests_at_once_are_answered_in_their_order(server: HttpServer) -> None:
    paths = ["/v1/studies", "/v1/nothing", f"/v1/studies/{STUDY}", "/v1/studies/none"]
    with _connect(server) as connection:
        requests = [GET.replace("/v1/studies", path) for path in paths]
        connection.sendall(("\r\n".join(requests) + "connection: close\r\n\r\n").encode())
        said = b""
        while heard := _received(connection):
            said += heard
    assert [int(part[:3]) for part in said.split(b"HTTP/1.1 ")[1:]] == [200, 404, 200, 404]
