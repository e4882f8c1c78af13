"""How long the HTTP server waits for a client: uvicorn itself waits for ever for a request to be whole."""

from __future__ import annotations

import asyncio
import resource

from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds for a request's line and headers, from the connection or the end of the last answer on.
REQUEST_S = 20.0
#: Seconds for the part of an answer that is in our buffer: 48 KiB or more.
DRAIN_S = 60.0
#: Connections at a time; half of what this process may open, if that is less.
MAX_CONNECTIONS = 500


class PatientProtocol(H11Protocol):
    """Hangs up on clients that send or read too slowly.

    Where there are too many connections, the one that has taken longest over its request makes room, so
    that many slow ones keep nobody else out.
    """

    _waiting: asyncio.TimerHandle | None = None
    _draining: asyncio.TimerHandle | None = None

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
        if len(there) > _most_connections():
            waiting = [(each._waiting.when(), each) for each in there if each._waiting is not None]
            min(waiting, key=lambda pair: pair[0])[1].transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_answering():
            self._stop_waiting()

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


def _most_connections() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files < 0 else min(MAX_CONNECTIONS, files // 2)
