"""HTTP from a client's side: one server, its token, whom to trust, and answers or one kind of error.

What surrounds a request decides how soon a client knows that a job is done: this is a thin layer above
urllib3, which keeps connections and looks whether one has ended before it is used again.
"""

from __future__ import annotations

import json as json_
import ssl
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.client import IncompleteRead
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3 import BaseHTTPResponse as Response
from urllib3.exceptions import (
    HTTPError,
    NewConnectionError,
    ProtocolError,
    TimeoutError,
)
from urllib3.util import Retry, Timeout

from queue_runner.tls import trusting

__all__ = ["Response", "Session", "Unanswered", "chunks", "succeeded"]

#: Connections that are kept; more are made when more threads ask at once.
_KEPT = 10
#: Neither again nor elsewhere. Like the pool below made once, and not by urllib3 for each request.
_ONCE = Retry(False, redirect=False)


class Unanswered(Exception):
    """There was no answer, or no whole one. hung_up: the other side ended the connection."""

    def __init__(self, text: str, hung_up: bool = False) -> None:
        super().__init__(text)
        self.hung_up = hung_up


class Session:
    """Requests to one server. Safe to use from several threads.

    url: `http(s)://host[:port][/path]`, which every request's path is put behind; token: sent as bearer;
    ca_file: see `tls.trusting`; timeout_s, connect_s: for a connection to be made, and for each part of an
    answer to come. Raises `ValueError` for what is no such URL.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        ca_file: Path | None = None,
        *,
        timeout_s: float = 30.0,
        connect_s: float = 10.0,
    ) -> None:
        self.url = _checked(url)
        self._timeout = Timeout(connect=connect_s, read=timeout_s)
        self._patience = Timeout(connect=connect_s, read=None)
        headers = {"user-agent": "queue-runner"}
        if token:
            headers["authorization"] = f"Bearer {_header(token)}"
        self._headers = headers
        self._pools = _pools(self.url, trusting(url, ca_file))
        # of the one server that is asked
        self._pool: urllib3.HTTPConnectionPool | None = None
        self._path = urlsplit(self.url).path

    def close(self) -> None:
        # `clear` alone leaves open what an answer still refers to
        for key in list(self._pools.pools.keys()):
            self._pools.pools[key].close()
        self._pools.clear()
        self._pool = None

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        body: Iterable[bytes] | None = None,
        patient: bool = False,
    ) -> Response:
        """The whole answer, whatever its status. `json`: sent as such; patient: however long it takes.

        Raises `Unanswered`.
        """
        sent = {**self._headers, **(headers or {})}
        content: bytes | Iterable[bytes] | None = body
        if json is not None:
            content = json_.dumps(json).encode()
            sent["content-type"] = "application/json"
        with _told():
            return self._ask(
                method,
                path,
                query,
                body=content,
                headers=sent,
                timeout=self._patience if patient else self._timeout,
            )

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[Response]:
        """An answer whose body is yet to be read, with `chunks`. Raises `Unanswered`."""
        with _told():
            response = self._ask(
                method,
                path,
                query,
                headers={**self._headers, **(headers or {})},
                timeout=self._timeout,
                preload_content=False,
            )
        try:
            yield response
        finally:
            # what was not read would be taken for the next answer
            response.close()

    def _ask(
        self, method: str, path: str, query: Mapping[str, object] | None = None, **options: Any
    ) -> Response:
        if query:
            path = f"{path}?{urlencode(query)}"
        options |= {"retries": _ONCE, "redirect": False}
        if self._pools.proxy is not None:
            # it is told the whole address
            return self._pools.urlopen(method, self.url + path, **options)
        pool = self._pool or self._pools.connection_from_url(self.url)
        self._pool = pool
        return pool.urlopen(method, self._path + path, assert_same_host=False, **options)


def chunks(response: Response, size: int) -> Iterator[bytes]:
    """The body of a streamed answer. Raises `Unanswered` where it ends too early."""
    with _told():
        yield from response.stream(size, decode_content=False)


def succeeded(response: Response) -> bool:
    return 200 <= response.status < 300


def _checked(url: str) -> str:
    """Without a slash at its end. Raises `ValueError`."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("it begins with neither http:// nor https://")
    if not parts.hostname:
        raise ValueError("no host in it")
    if parts.query or parts.fragment:
        raise ValueError("it has a ? or # in it")
    if parts.port is not None and not 0 < parts.port < 65536:
        raise ValueError(f"no port {parts.port}")
    if not url.isprintable() or " " in url:
        raise ValueError("characters in it that no URL has")
    return url.rstrip("/")


def _header(value: str) -> str:
    """Raises `ValueError` for what would end the header."""
    if not value.isascii() or not value.isprintable():
        raise ValueError("a token is printable ASCII")
    return value


def _pools(url: str, trust: ssl.SSLContext | bool) -> urllib3.PoolManager:
    """By way of the proxy that the environment names, as other programs do."""
    context = trust if isinstance(trust, ssl.SSLContext) else None
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.netloc):
        return urllib3.ProxyManager(proxy, maxsize=_KEPT, ssl_context=context)
    return urllib3.PoolManager(maxsize=_KEPT, ssl_context=context)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (HTTPError, OSError) as error:
        raise Unanswered(_text(error), isinstance(error, ProtocolError)) from error


def _text(error: BaseException) -> str:
    """What happened, without the names of the library's objects."""
    if isinstance(error, TimeoutError) and not isinstance(error, NewConnectionError):
        return "timed out"
    if isinstance(error, ProtocolError) and len(error.args) > 1:
        what = error.args[1]
        return "the answer ended too early" if isinstance(what, IncompleteRead) else str(what)
    cause = error.__cause__ or error
    return str(cause) or type(cause).__name__
