"""Who may come in: the server's end of ZAP, by which libzmq asks about each client that knocks.

https://rfc.zeromq.org/spec/27/
"""

from __future__ import annotations

import logging
import threading
import time

import zmq
from zmq.utils import z85

from queue_runner.brokers.zeromq.keys import ServerKeys, read_allowed
from queue_runner.errors import FixThis

log = logging.getLogger(__name__)

_ADDRESS = "inproc://zeromq.zap.01"
#: Refusals are told at most so often: who may not come in may well try all day.
_TELL_S = 1.0


class Doorkeeper:
    """Reads the allowed keys again for each client, so that adding one takes no restart.

    It has a thread of its own, so that nobody is left knocking while the server waits for its disk; that
    ends with the context. Raises `FixThis` where the keys cannot be read at the start; later that lets
    nobody in.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: ServerKeys) -> None:
        self._keys = keys
        self._tell_at = 0.0
        self._untold = 0
        if not read_allowed(keys.allowed):
            log.warning("%s holds no client's public key: nobody can come in", keys.allowed)
        self._socket = context.socket(zmq.REP)
        self._socket.bind(_ADDRESS)
        threading.Thread(target=self._answer_all, name="zeromq-doorkeeper", daemon=True).start()

    def secure(self, socket: zmq.Socket[bytes]) -> None:
        """Before it is bound: who is not allowed in gets nothing from this socket."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.own.secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, b"queue-runner")
        # without it, libzmq would let everybody in if nobody answered here
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def _answer_all(self) -> None:
        with self._socket:
            while True:
                try:
                    self._socket.send_multipart(self._answer(*self._socket.recv_multipart()))
                except zmq.ContextTerminated:
                    return

    def _answer(self, version: bytes, number: bytes, *rest: bytes) -> list[bytes]:
        _domain, address, _identity, mechanism, *credentials = rest
        if mechanism == b"CURVE" and self._allows(key := z85.encode(credentials[0])):
            return [version, number, b"200", b"OK", key, b""]
        self._tell(address, credentials)
        return [version, number, b"400", b"unknown key", b"", b""]

    def _allows(self, key: bytes) -> bool:
        try:
            return key in read_allowed(self._keys.allowed)
        except FixThis as error:
            log.error("nobody is let in: %s", error)
            return False

    def _tell(self, address: bytes, credentials: list[bytes]) -> None:
        self._untold += 1
        if time.monotonic() < self._tell_at:
            return
        shown = z85.encode(credentials[0]).decode() if credentials else "none"
        log.warning(
            "refused %d clients, the last from %s with the unknown public key %s",
            self._untold,
            address.decode(errors="replace"),
            shown,
        )
        self._untold, self._tell_at = 0, time.monotonic() + _TELL_S
