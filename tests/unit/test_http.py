"""Requests from a client's side: what is kept, what is told, and in which words."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from queue_runner.http import Session, Unanswered, chunks, succeeded

_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
_SHORT = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"


class Server:
    """Gives each request the same bytes.

    heard: the first line of each request, and its connection; ended: released for each of these that has.
    """

    def __init__(self, answer: bytes, hang_up: bool) -> None:
        self.heard: list[tuple[bytes, int]] = []
        self.ended = threading.Semaphore(0)
        self._answer, self._hang_up = answer, hang_up
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        number = 0
        # closed by the test
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                number += 1
                with connection, suppress(OSError):
                    while self._request(connection, number) and not self._hang_up:
                        pass
                self.ended.release()

    def _request(self, connection: socket.socket, number: int) -> bool:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (part := connection.recv(65536)):
                return False
            head += part
        self.heard.append((head.split(b"\r\n", 1)[0], number))
        connection.sendall(self._answer)
        return True

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


@contextmanager
def serving(answer: bytes = _OK, hang_up: bool = False) -> Iterator[Server]:
    server = Server(answer, hang_up)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def session(url: str, timeout_s: float = 30.0) -> Iterator[Session]:
    opened = Session(url, timeout_s=timeout_s)
    try:
        yield opened
    finally:
        opened.close()


def test_a_connection_is_kept() -> None:
    with serving() as server, session(f"{server.url}/below/") as http:
        for query in ({"after": -1, "state": "a b"}, None):
            answer = http.request("GET", "/v1/studies", query)
            assert succeeded(answer)
            assert answer.json() == {}
    assert server.heard == [
        (b"GET /below/v1/studies?after=-1&state=a+b HTTP/1.1", 1),
        (b"GET /below/v1/studies HTTP/1.1", 1),
    ]


def test_one_that_has_ended_is_not_used_again() -> None:
    with serving(hang_up=True) as server, session(server.url) as http:
        for _ in range(3):
            assert succeeded(http.request("GET", "/"))
            assert server.ended.acquire(timeout=10)
    assert [number for _, number in server.heard] == [1, 2, 3]


def test_one_that_was_closed_connects_again() -> None:
    with serving() as server, session(server.url) as http:
        ask(http)
        http.close()
        ask(http)
    assert [number for _, number in server.heard] == [1, 2]


def ask(http: Session) -> None:
    http.request("GET", "/")


def read(http: Session) -> None:
    with http.stream("GET", "/") as response:
        list(chunks(response, 1))


@pytest.mark.parametrize("use", [ask, read])
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "Remote end closed connection without response"),
        (_SHORT, "the answer ended too early"),
        (b"nonsense\r\n\r\n", "nonsense"),
    ],
)
def test_a_server_that_hangs_up_has_not_answered(
    use: Callable[[Session], None], answer: bytes, text: str
) -> None:
    with serving(answer, hang_up=True) as server, session(server.url) as http:
        with pytest.raises(Unanswered, match=text) as raised:
            use(http)
        assert raised.value.hung_up


@pytest.mark.parametrize("use", [ask, read])
def test_a_silent_server_is_not_waited_for_without_end(use: Callable[[Session], None]) -> None:
    with serving(b"") as server, session(server.url, timeout_s=0.1) as http:
        with pytest.raises(Unanswered, match=r"^timed out$") as raised:
            use(http)
        assert not raised.value.hung_up


@pytest.mark.parametrize("use", [ask, read])
def test_where_nobody_listens(use: Callable[[Session], None]) -> None:
    with serving() as server:
        url = server.url
    with (
        session(url) as http,
        pytest.raises(Unanswered, match=r"^\[Errno \d+\] Connection refused$"),
    ):
        use(http)


@pytest.mark.parametrize(
    "url",
    [
        "", "host", "ftp://host", "http://", "http:///path", "http://host:0", "http://host:99999",
        "http://host:port", "http://host/?a=b", "http://host/#top", "http://ho st", "http://host\n",
        "http://[::1",
    ],
)  # fmt: skip
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Session(url)


@pytest.mark.parametrize("token", ["a\r\nb: c", "é", "\x00"])
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(ValueError, match="a token is printable ASCII") as raised:
        Session("http://host", token)
    assert token not in str(raised.value)


def test_a_proxy_that_the_environment_names_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    with serving() as server:
        monkeypatch.setenv("http_proxy", server.url)
        with session("http://elsewhere.invalid") as http:
            assert succeeded(http.request("GET", "/healthz"))
        monkeypatch.setenv("no_proxy", "elsewhere.invalid")
        with session("http://elsewhere.invalid") as http, pytest.raises(Unanswered):
            http.request("GET", "/healthz")
    assert [line for line, _ in server.heard] == [b"GET http://elsewhere.invalid/healthz HTTP/1.1"]
