"""The little that we use of redis-py, with types."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from redis.connection import Connection, SSLConnection

#: A peer that is gone is noticed within idle + 3 probes, in a subscription too, where nothing is sent.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}


class Wire(Protocol):
    """One connection, one command at a time. Its methods raise what `failures` translates."""

    host: str
    port: int
    _sock: socket.socket | None

    def connect(self) -> None: ...

    def send_command(self, *command: Any) -> None: ...

    def pack_command(self, *command: Any) -> list[bytes]: ...

    def send_packed_command(self, command: list[bytes]) -> None: ...

    def read_response(self) -> Any: ...

    def can_read(self, timeout: float) -> bool: ...

    def disconnect(self) -> None: ...


def make_wire(
    host: str,
    port: int,
    timeout_s: float,
    *,
    db: int = 0,
    login: tuple[str | None, str | None],
    tls: Mapping[str, str] | None,
) -> Wire:
    """Not connected yet; `timeout_s` is for connecting and for each answer until `set_timeout`."""
    kind: Any = Connection if tls is None else SSLConnection
    wire: Wire = kind(
        host=host,
        port=port,
        db=db,
        username=login[0],
        password=login[1],
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        socket_keepalive=True,
        socket_keepalive_options=_KEEPALIVE,
        # 3 is the default from redis-py 8 on, and gives answers other shapes
        protocol=2,
        **(tls or {}),
    )
    return wire


def set_timeout(wire: Wire, timeout_s: float) -> None:
    """For the commands that follow; the driver itself has one time-out for a connection's life."""
    assert wire._sock is not None
    wire._sock.settimeout(timeout_s)


def cut(wire: Wire) -> None:
    """Let whoever waits for an answer on it find that there is none. Safe from any thread."""
    found = wire._sock
    if found is not None:
        with suppress(OSError):  # it has ended by itself
            # the method of a socket with TLS also takes from the waiting thread what it waits with
            socket.socket.shutdown(found, socket.SHUT_RDWR)
