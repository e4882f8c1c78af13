"""Why a server does not talk to us. libzmq keeps silent about it but to a socket's monitor.

A server that does not know our key says so. One whose own key is another hangs up without a word, as also
a server does that is just ending and a proxy without a server: so after the second time it is asked which
mechanism it speaks. One that wants keys where we have none does either that, or libzmq has read by then that
it speaks another mechanism, and calls that an error of the protocol.
"""

from __future__ import annotations

import socket
import uuid
from urllib.parse import urlsplit

import zmq
from zmq.utils.monitor import parse_monitor_message

EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)

_ASK_S = 1.0
#: The begin of a greeting, signature and version 3.0, upon which the other side sends its own. It would
#: hang up if it read a mechanism that is not its own. https://rfc.zeromq.org/spec/23/
_KNOCK = b"\xff" + bytes(8) + b"\x7f\x03\x00"
_GREETING_BYTES = 64
_NO_KEYS = (
    "the server wants keys, and the URL has none: ?key_file=CLIENT.key&server_key_file=SERVER.pub"
)
_OTHER_SERVER = (
    "the server's key is not the one in server_key_file: take the public key of this server, or"
    " look who answers there"
)
_NO_SERVER_KEYS = (
    "the server does not use keys, as the URL says: start it with --key and --clients,"
    " or leave key_file and server_key_file out"
)


class Doorbell:
    """Reads a socket's monitor; to be asked by the thread that owns the socket.

    `final`: the server has said no, so that libzmq will not try again; `met`: how often it has let us in.
    """

    def __init__(self, of: zmq.Socket[bytes], address: str, public: bytes | None) -> None:
        self._of = of
        self._address = address
        self._public = public
        self._hung_up = 0
        self.final = False
        self.met = 0
        self.monitor = _monitor(of)

    def refusal(self) -> str | None:
        """What the events since the last time come to: a text when the server said no."""
        text: str | None = None
        while True:
            try:
                message = self.monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return text
            text = self._meaning(parse_monitor_message(message)["event"])

    def _meaning(self, event: int) -> str | None:
        if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            return self._hung_up_on()
        self._hung_up = 0
        self.final = event != zmq.EVENT_HANDSHAKE_SUCCEEDED
        self.met += event == zmq.EVENT_HANDSHAKE_SUCCEEDED
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            key = (self._public or b"").decode()
            return f"the server does not know this client's key: add {key} to its --clients"
        return self._mismatch() if self.final else None

    def _mismatch(self) -> str | None:
        mechanism = mechanism_of(self._address)
        if self._public and mechanism == "NULL":
            return _NO_SERVER_KEYS
        if not self._public and mechanism == "CURVE":
            return _NO_KEYS
        return None

    def _hung_up_on(self) -> str | None:
        self._hung_up += 1
        if self._hung_up < 2 or mechanism_of(self._address) != "CURVE":
            return None
        self._hung_up = 0
        return _OTHER_SERVER if self._public else _NO_KEYS

    def close(self) -> None:
        self._of.monitor(None, 0)
        self.monitor.close()


def _monitor(of: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    address = f"inproc://{uuid.uuid4().hex}"
    of.monitor(address, EVENTS)
    monitor: zmq.Socket[bytes] = of.context.socket(zmq.PAIR)
    # nobody reads it while nothing is asked, and where it is full libzmq waits for its reader
    monitor.setsockopt(zmq.RCVHWM, 0)
    monitor.connect(address)
    return monitor


def mechanism_of(address: str) -> str | None:
    """`CURVE` or `NULL`, by the greeting of the server there; None where no ZeroMQ answers."""
    try:
        with _connected(address) as connection:
            connection.sendall(_KNOCK)
            greeting = _receive(connection, _GREETING_BYTES)
    except OSError:  # somebody who is not there has no mechanism, which is the answer
        return None
    if greeting[:1] != b"\xff" or greeting[9:10] != b"\x7f":
        return None
    return greeting[12:32].rstrip(b"\0").decode("ascii", "replace")


def _connected(address: str) -> socket.socket:
    parts = urlsplit(address)
    if parts.scheme == "tcp":
        return socket.create_connection((parts.hostname, parts.port or 0), _ASK_S)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_ASK_S)
    connection.connect(parts.path)
    return connection


def _receive(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length and (piece := connection.recv(length - len(received))):
        received += piece
    return received
