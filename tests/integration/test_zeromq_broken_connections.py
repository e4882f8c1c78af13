"""Connections to a ZeroMQ server that break in a bad moment, where libzmq ended the whole server."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import ExitStack

from queue_runner.brokers.registry import connect
from queue_runner.brokers.zeromq.protocol import pack_request
from queue_runner.testing.servers import start_server

#: Of libzmq in this server, when there were some.
HEARTBEAT_S = 10.0
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)


class RawDealer:
    """A connection that says of itself who it is, and can be broken: https://rfc.zeromq.org/spec/23/"""

    def __init__(self, address: tuple[str, int], identity: bytes) -> None:
        self.socket = socket.create_connection(address, 10)
        self.socket.sendall(GREETING)
        properties = _property(b"Socket-Type", b"DEALER") + _property(b"Identity", identity)
        body = b"\x05READY" + properties
        self.socket.sendall(b"\x04" + bytes([len(body)]) + body)
        ready = b""
        while b"READY" not in ready:
            ready += self.socket.recv(1000)

    def ask(self, number: bytes, frame: bytes) -> None:
        self.socket.sendall(
            b"\x01" + bytes([len(number)]) + number + b"\x00" + bytes([len(frame)]) + frame
        )

    def break_off(self) -> None:
        """With a reset, and not with an end that is told in order."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


def test_who_comes_back_before_its_old_connection_breaks_does_not_end_the_server() -> None:
    """As where a switch was away: what was on the old wire comes after the new one was made."""
    ping = pack_request("ping")
    with start_server("zeromq") as server, ExitStack() as stack:
        host, port = server.url.removeprefix("zmq+tcp://").partition("?")[0].split(":")
        address = (host, int(port))
        for number in range(5):
            old, new = (RawDealer(address, b"client-%d" % number) for _ in range(2))
            stack.enter_context(old.socket)
            stack.enter_context(new.socket)
            new.ask(b"%d-2" % number, ping)
            old.ask(b"%d-3" % number, ping)
            old.break_off()
        # there is nothing to await: it ended at the next heartbeat
        time.sleep(HEARTBEAT_S + 1.0)
        with connect(server.url) as broker:
            broker.server()
