"""The client's connection: one thread owns the socket, callers hand it requests and wait.

ZeroMQ reconnects by itself, but what was on the wire is lost without a word; so a request that stays
unanswered is sent again under its id, and the server does nothing twice. Pings tell whether a server is
there at all, and whether it is still the same one (else all requests are sent again); subscriptions are
repeated with each of them.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import threading
import time
import uuid
from collections import deque
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

import zmq

from queue_runner.brokers.base import Subscription
from queue_runner.brokers.zeromq.keys import ClientKeys
from queue_runner.brokers.zeromq.protocol import (
    MAX_FRAME_BYTES,
    PING_S,
    ProtocolError,
    Status,
    pack_request,
    unpack,
)
from queue_runner.brokers.zeromq.refusals import Doorbell
from queue_runner.errors import BrokerRefused, BrokerUnavailable

log = logging.getLogger(__name__)

#: Seconds after which an unanswered request is sent again, doubling up to the limit.
_RESEND_S = 2.0
_RESEND_MAX_S = 16.0
#: Broadcasts that a subscriber has not read yet; beyond it the oldest are dropped.
_BACKLOG = 10_000


@dataclass(slots=True)
class _Call:
    number: bytes
    frame: bytes
    answer: Future[Any]
    resend_at: float
    resend_s: float = _RESEND_S


@dataclass(slots=True)
class _Inbox:
    topics: frozenset[str]
    messages: queue.Queue[tuple[str, bytes]] = field(
        default_factory=lambda: queue.Queue(maxsize=_BACKLOG)
    )

    def put(self, topic: str, body: bytes) -> None:
        while True:
            try:
                self.messages.put_nowait((topic, body))
                return
            except queue.Full:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        try:
            self.messages.get_nowait()
        except queue.Empty:  # its reader was faster
            return


class Connection:
    """Requests and answers, and broadcasts. All methods may be called from any thread."""

    def __init__(self, address: str, keys: ClientKeys | None = None) -> None:
        self.address = address
        self._calls: dict[bytes, _Call] = {}
        self._outgoing: deque[_Call | tuple[bytes, bytes] | bytes] = deque()
        self._numbers = itertools.count(1)
        self._inboxes: list[_Inbox] = []
        self._inboxes_lock = threading.Lock()
        self._instance: str | None = None
        self._closing = threading.Event()
        # guards the file descriptor, whose number means another file once it is closed
        self._waking = threading.Lock()
        self._ended = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._socket = self._made(keys)
        self._doorbell = Doorbell(self._socket, address, keys.own.public if keys else None)
        self._connect()
        self._thread = threading.Thread(target=self._run, name="zeromq-client", daemon=True)
        self._thread.start()

    def _made(self, keys: ClientKeys | None) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.IDENTITY, uuid.uuid4().bytes)
        # long enough for a last acknowledgement, short enough for a server that has gone
        socket.setsockopt(zmq.LINGER, 500)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        socket.setsockopt(zmq.HEARTBEAT_IVL, 5_000)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 10_000)
        if keys is not None:
            socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.own.public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, keys.own.secret)
        return socket

    def _connect(self) -> None:
        try:
            self._socket.connect(self.address)
        except zmq.ZMQError as error:
            self._close_sockets()
            os.close(self._wake)
            raise ValueError(f"zmq+{self.address}: not an address: {error}") from error

    def _close_sockets(self) -> None:
        self._doorbell.close()
        self._socket.close()
        self._context.term()

    # -- callers' side ---------------------------------------------------------------------------

    def call(self, timeout_s: float, operation: str, *arguments: object) -> Any:
        """Send a request and wait for its answer.

        Raises `BrokerUnavailable` past the deadline, and what the server's answer says.
        """
        if self._closing.is_set():
            raise BrokerUnavailable(f"zmq+{self.address}: this connection was closed")
        call = _Call(
            number=next(self._numbers).to_bytes(8, "big"),
            frame=pack_request(operation, *arguments),
            answer=Future(),
            resend_at=time.monotonic() + _RESEND_S,
        )
        self._hand_over(call)
        try:
            status, value = call.answer.result(timeout_s)
        except FutureTimeout as error:
            self._hand_over(call.number)
            raise BrokerUnavailable(
                f"zmq+{self.address}: no answer from the broker server within {timeout_s:g} s."
                " Is `queue-runner broker` running there?"
            ) from error
        except CancelledError as error:
            raise BrokerUnavailable(f"zmq+{self.address}: this connection was closed") from error
        return _value_of(self.address, status, value)

    def subscribe(self, topics: frozenset[str], timeout_s: float) -> _QueueSubscription:
        inbox = _Inbox(topics)
        with self._inboxes_lock:
            self._inboxes.append(inbox)
        try:
            self.call(timeout_s, "subscribe", self._topics())
        except BaseException:
            self._leave(inbox)
            raise
        return _QueueSubscription(self, inbox)

    def unsubscribe(self, inbox: _Inbox) -> None:
        if self._leave(inbox) and not self._closing.is_set():
            frame = pack_request("subscribe", self._topics())
            self._hand_over((next(self._numbers).to_bytes(8, "big"), frame))

    def _leave(self, inbox: _Inbox) -> bool:
        with self._inboxes_lock:
            if inbox not in self._inboxes:
                return False
            self._inboxes.remove(inbox)
            return True

    def _topics(self) -> list[str]:
        with self._inboxes_lock:
            return sorted(frozenset().union(*(inbox.topics for inbox in self._inboxes)))

    def _hand_over(self, item: _Call | tuple[bytes, bytes] | bytes) -> None:
        with self._waking:
            if not self._ended:
                self._outgoing.append(item)
                os.eventfd_write(self._wake, 1)
            elif isinstance(item, _Call):
                item.answer.cancel()

    def close(self) -> None:
        self._closing.set()
        self._hand_over(b"")
        self._thread.join()

    # -- the thread's side -----------------------------------------------------------------------

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        poller.register(self._doorbell.monitor, zmq.POLLIN)
        next_ping = 0.0
        try:
            while not self._closing.is_set():
                now = time.monotonic()
                if now >= next_ping:
                    self._knock_again()
                    self._send(b"ping", pack_request("ping"))
                    self._subscribe_again()
                    next_ping = now + PING_S
                    self._resend(now)
                events = dict(poller.poll(max(1, int((next_ping - now) * 1000))))
                if self._wake in events:
                    os.eventfd_read(self._wake)
                if self._doorbell.monitor in events:
                    self._hear_refusal()
                self._send_new()
                self._receive()
        finally:
            self._end()

    def _end(self) -> None:
        with self._waking:
            self._ended = True
            os.close(self._wake)
        self._send_new()
        for call in self._calls.values():
            call.answer.cancel()
        self._calls.clear()
        self._close_sockets()

    def _hear_refusal(self) -> None:
        text = self._doorbell.refusal()
        if text is not None:
            for call in self._calls.values():
                call.answer.set_result((Status.REFUSED, text))
            self._calls.clear()

    def _knock_again(self) -> None:
        """libzmq itself does not, once a server has said no; it may have learned our key since."""
        if self._doorbell.final:
            self._doorbell.final = False
            self._socket.disconnect(self.address)
            self._socket.connect(self.address)

    def _subscribe_again(self) -> None:
        # a server that could not reach us for a while has forgotten us, and there is nothing to see it by
        if topics := self._topics():
            self._send(b"subscribe", pack_request("subscribe", topics))

    def _send_new(self) -> None:
        while self._outgoing:
            item = self._outgoing.popleft()
            if isinstance(item, bytes):
                # the caller has given up; should it be a waiting lease, nothing must be leased to it
                if self._calls.pop(item, None) is not None:
                    self._send(b"forget" + item, pack_request("forget", item))
            elif isinstance(item, tuple):
                self._send(*item)
            else:
                self._knock_again()
                self._calls[item.number] = item
                self._send(item.number, item.frame)

    def _send(self, number: bytes, frame: bytes) -> None:
        try:
            self._socket.send_multipart([number, frame], zmq.NOBLOCK)
        except zmq.Again:  # nobody has been there for a thousand messages: it is sent again later
            return

    def _resend(self, now: float) -> None:
        for call in self._calls.values():
            if now >= call.resend_at:
                call.resend_s = min(2 * call.resend_s, _RESEND_MAX_S)
                call.resend_at = now + call.resend_s
                self._send(call.number, call.frame)

    def _receive(self) -> None:
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                self._take_in(frames)
            except (ProtocolError, ValueError, TypeError) as error:
                # what an answer to a call was to be is asked for again
                log.warning("%s: dropped what is no answer: %s", self.address, error)

    def _take_in(self, frames: list[bytes]) -> None:
        number, body = frames
        if number == b"":
            self._dispatch(unpack(body))
        elif number == b"ping":
            self._heard_pong(unpack(body))
        elif number in self._calls:
            status, value = unpack(body)
            self._calls.pop(number).answer.set_result((status, value))

    def _dispatch(self, push: list[Any]) -> None:
        _, topic, body = push
        if not (isinstance(topic, str) and isinstance(body, bytes)):
            raise ValueError("a broadcast has a topic and a body")
        with self._inboxes_lock:
            interested = [inbox for inbox in self._inboxes if topic in inbox.topics]
        for inbox in interested:
            inbox.put(topic, body)

    def _heard_pong(self, answer: list[Any]) -> None:
        status, instance = answer
        if status != Status.OK or instance == self._instance:
            return
        restarted, self._instance = self._instance is not None, instance
        if restarted:
            self._subscribe_again()
            for call in self._calls.values():
                self._send(call.number, call.frame)


class _QueueSubscription(Subscription):
    def __init__(self, connection: Connection, inbox: _Inbox) -> None:
        self._connection = connection
        self._inbox = inbox

    def get(self, timeout_s: float) -> tuple[str, bytes] | None:
        try:
            topic, body = self._inbox.messages.get(timeout=max(timeout_s, 0.0001))
        except queue.Empty:
            return None
        return topic.rpartition(":")[2], body

    def close(self) -> None:
        self._connection.unsubscribe(self._inbox)


def _value_of(address: str, status: str, value: Any) -> Any:
    if status == Status.OK:
        return value
    text = f"zmq+{address}: {value}"
    if status == Status.BAD_VALUE:
        raise ValueError(text)
    if status == Status.UNAVAILABLE:
        raise BrokerUnavailable(text)
    raise BrokerRefused(text)
