"""How long the HTTP server waits for a client, and how much of one it takes in.

uvicorn itself waits for ever for a request to be whole, and httptools, which reads requests for it, keeps
what is not yet a whole header, however long that becomes.
"""

from __future__ import annotations

import asyncio
import resource

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Seconds for a request's line and headers, from the connection or the end of the last answer on.
REQUEST_S = 20.0
#: Seconds for the part of an answer that is in our buffer: 48 KiB or more.
DRAIN_S = 60.0
#: Connections at a time; half of what this process may open, if that is less.
MAX_CONNECTIONS = 500
#: Bytes of a request's line and headers together; and of all else between two parts of a body.
MAX_HEAD_BYTES = 32 * 1024
#: Requests of one connection that wait for the one before them to be answered.
MAX_PIPELINED = 16


class _TooMuch(ValueError):
    """Ends the reading of a request; uvicorn answers 400, as to what is no HTTP, and hangs up."""


class PatientProtocol(HttpToolsProtocol):
    """Hangs up on clients that send or read too slowly, or send what is no body without end.

    Where there are too many connections, the one that has taken longest over its request makes room, so
    that many slow ones keep nobody else out.
    """

    _waiting: asyncio.TimerHandle | None = None
    _draining: asyncio.TimerHandle | None = None
    #: What came since the last that was part of a body, and of that the line and headers of a request.
    _others_bytes = 0
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_request()
        self._make_room()

    def _make_room(self) -> None:
        there = [
            each
            for each in self.connections
            if isinstance(each, PatientProtocol) and not each.transport.is_closing()
        ]
        if len(there) > most_connections():
            waiting = [(each._waiting.when(), each) for each in there if each._waiting is not None]
            min(waiting, key=lambda pair: pair[0])[1].transport.abort()

    def data_received(self, data: bytes) -> None:
        self._others_bytes += len(data)
        super().data_received(data)
        if self._others_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse()
        elif self._is_answering():
            self._stop_waiting()

    def _refuse(self) -> None:
        if self._is_answering():
            self.transport.abort()
        else:
            self.send_400_response("Too much that is no body.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._others_bytes = self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(name, value)

    def _count(self, *parts: bytes) -> None:
        self._head_bytes += sum(map(len, parts))
        if self._head_bytes > MAX_HEAD_BYTES:
            raise _TooMuch

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _TooMuch
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._others_bytes = 0

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_answering():  # unless the next request had come already
            self._wait_for_request()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_request(self) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._draining = self.loop.call_later(DRAIN_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_draining()

    def _stop_draining(self) -> None:
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_waiting()
        self._stop_draining()


def most_connections() -> int:
    """At a time, of this process."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files < 0 else min(MAX_CONNECTIONS, files // 2)
