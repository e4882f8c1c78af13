"""One request at a time over a socket of its own, sent and awaited by the thread that asks.

No thread in between: where other threads are busy, each one that has to be woken costs a turn of the
interpreter's lock, which is milliseconds. ZeroMQ reconnects by itself, but what was on the wire is lost
without a word; so a request is sent again under its id when the socket has come back, or when it stays
unanswered, and the server does nothing twice.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
import uuid
from typing import Any

import zmq

from queue_runner.brokers.zeromq.keys import ClientKeys
from queue_runner.brokers.zeromq.protocol import (
    MAX_FRAME_BYTES,
    ProtocolError,
    Status,
    pack_request,
    unpack,
)
from queue_runner.brokers.zeromq.refusals import Doorbell
from queue_runner.brokers.zeromq.silence import notice

log = logging.getLogger(__name__)

#: Seconds after which an unanswered request is sent again, doubling up to the limit.
_RESEND_S = 2.0
_RESEND_MAX_S = 16.0
#: Seconds between knocks at a server that has said no; it may have learned our key since.
KNOCK_S = 1.0

Answer = tuple[str, Any]


class Closing(Exception):
    """The connection is being closed by another thread."""


class Line:
    """A DEALER that knows whether the server refuses it, and when it has lost what it sent.

    Raises `ValueError` for what is no address.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], address: str, keys: ClientKeys | None
    ) -> None:
        self.address = address
        self._name = uuid.uuid4().bytes
        self.socket = _dealer(context, keys)
        self._doorbell = Doorbell(self.socket, address, keys.own.public if keys else None)
        #: Readable when `came_back` has something to tell.
        self.monitor = self._doorbell.monitor
        self._first_meeting = True
        try:
            self.socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise ValueError(f"zmq+{address}: not an address: {error}") from error

    def id_of(self, number: int) -> bytes:
        """Of the request with this number, whatever connection it is sent over."""
        return self._name + number.to_bytes(8, "big")

    def send(self, number: bytes, frame: bytes) -> None:
        try:
            self.socket.send_multipart([number, frame], zmq.NOBLOCK)
        except zmq.Again:  # nobody has been there for a thousand messages: it is sent again later
            return

    def received(self) -> list[bytes] | None:
        try:
            return self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def came_back(self) -> tuple[bool, str | None]:
        """Since the last time: whether what was sent before may be lost; why the server refuses us."""
        before = self._doorbell.met
        refusal = self._doorbell.refusal()
        met = self._doorbell.met > before
        again = met and not self._first_meeting
        if met:
            self._first_meeting = False
        return again, refusal

    def knock_again(self) -> bool:
        """Whether it had to be done: libzmq itself does not, once a server has said no."""
        if not self._doorbell.final:
            return False
        self._doorbell.final = False
        self.socket.disconnect(self.address)
        self.socket.connect(self.address)
        self._first_meeting = True
        return True

    def close(self) -> None:
        self._doorbell.close()
        self.socket.close()


def _dealer(context: zmq.Context[zmq.Socket[bytes]], keys: ClientKeys | None) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    # long enough for a last acknowledgement, short enough for a server that has gone
    socket.setsockopt(zmq.LINGER, 500)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
    notice(socket)
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.own.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.own.secret)
    return socket


class Channel:
    """Not for two threads at once. closing: a file descriptor that is readable once all is to end."""

    def __init__(self, line: Line, closing: int) -> None:
        self._line, self._closing = line, closing
        self._numbers = itertools.count(1)
        self._poller = zmq.Poller()
        self._poller.register(line.socket, zmq.POLLIN)
        self._poller.register(line.monitor, zmq.POLLIN)
        self._poller.register(closing, zmq.POLLIN)

    def ask(self, frame: bytes, timeout_s: float) -> Answer:
        """Raises `TimeoutError`, `Closing`."""
        number = self._line.id_of(next(self._numbers))
        self._line.came_back()  # what nobody was waiting for
        self._line.knock_again()
        self._line.send(number, frame)
        answer: Answer | None = None
        try:
            answer = self._await(number, frame, timeout_s)
        finally:
            if answer is None:
                # should it be a waiting lease, nothing must be leased to it
                self._line.send(b"forget" + number, pack_request("forget", number))
        return answer

    def _await(self, number: bytes, frame: bytes, timeout_s: float) -> Answer:
        now = time.monotonic()
        end, resend_s = now + timeout_s, _RESEND_S
        resend_at, knock_at = now + resend_s, now + KNOCK_S
        while True:
            answer = self._answer(number)
            if answer is not None:
                return answer
            now = time.monotonic()
            if now >= end:
                raise TimeoutError
            if now >= knock_at:
                knock_at = now + KNOCK_S
                if self._line.knock_again():
                    resend_at = now
            if now >= resend_at:
                resend_s = min(2 * resend_s, _RESEND_MAX_S)
                resend_at = now + resend_s
                self._line.send(number, frame)
            left_s = min(end, resend_at, knock_at) - now
            events = dict(self._poller.poll(math.ceil(1000 * left_s)))
            if self._closing in events:
                raise Closing
            if self._line.monitor in events:
                again, refusal = self._line.came_back()
                if refusal is not None:
                    return Status.REFUSED, refusal
                if again:
                    self._line.send(number, frame)

    def _answer(self, number: bytes) -> Answer | None:
        while (frames := self._line.received()) is not None:
            try:
                answer = read_answer(frames, number)
            except ProtocolError as error:
                # what it was to be is asked for again
                log.warning("%s: dropped what is no answer: %s", self._line.address, error)
                continue
            if answer is not None:
                return answer
        return None

    def close(self) -> None:
        self._line.close()


def read_answer(frames: list[bytes], number: bytes) -> Answer | None:
    """None for an answer to something else. Raises `ProtocolError`."""
    if len(frames) != 2:
        raise ProtocolError("expected two frames")
    if frames[0] != number:
        return None
    opened = unpack(frames[1])
    if not (isinstance(opened, list) and len(opened) == 2 and isinstance(opened[0], str)):
        raise ProtocolError("expected [status, value]")
    status, value = opened
    return status, value
