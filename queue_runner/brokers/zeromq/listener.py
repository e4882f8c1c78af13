"""Broadcasts: one thread owns a socket that the server pushes to, and hands on what comes.

A server that could not reach us for a while has forgotten us, and there is nothing to see it by; so the
subscription is sent again and again.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

import zmq

from queue_runner.brokers.zeromq.channel import KNOCK_S, Answer, Line, read_answer
from queue_runner.brokers.zeromq.protocol import ProtocolError, Status, pack_request, unpack

log = logging.getLogger(__name__)

#: Broadcasts that a subscriber has not read yet; beyond it the oldest are dropped.
_BACKLOG = 10_000


@dataclass(slots=True, eq=False)
class Inbox:
    """since: the number of the first request with these topics, None before it; heard: its answer."""

    topics: frozenset[str]
    heard: Future[Answer] = field(default_factory=Future)
    since: int | None = None
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


class Listener:
    """`add`, `remove` and `close` may be called from any thread."""

    def __init__(self, line: Line, first: Inbox) -> None:
        self._line = line
        self._inboxes = [first]
        self._lock = threading.Lock()
        self._asked = 0
        self._closing = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="zeromq-listener", daemon=True)
        self._thread.start()

    def add(self, inbox: Inbox) -> None:
        with self._lock:
            self._inboxes.append(inbox)
        os.eventfd_write(self._wake, 1)

    def remove(self, inbox: Inbox) -> None:
        with self._lock:
            if inbox not in self._inboxes:
                return
            self._inboxes.remove(inbox)
            # not after `close`, when its number may mean another file
            if not self._closing.is_set():
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        with self._lock:
            self._closing.set()
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        for inbox in self._inboxes:
            inbox.heard.cancel()
        os.close(self._wake)
        self._line.close()

    # -- the thread's side -----------------------------------------------------------------------

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._line.socket, zmq.POLLIN)
        poller.register(self._line.monitor, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        subscribe_at = 0.0
        while not self._closing.is_set():
            now = time.monotonic()
            if now >= subscribe_at:
                self._line.knock_again()
                self._subscribe()
                subscribe_at = now + KNOCK_S
            events = dict(poller.poll(max(1, int((subscribe_at - now) * 1000))))
            if self._wake in events:
                os.eventfd_read(self._wake)
                subscribe_at = 0.0
            if self._line.monitor in events:
                again, refusal = self._line.came_back()
                if refusal is not None:
                    self._answered(self._asked, (Status.REFUSED, refusal))
                if again:
                    subscribe_at = 0.0
            self._receive()

    def _subscribe(self) -> None:
        self._asked += 1
        with self._lock:
            topics = sorted(frozenset().union(*(inbox.topics for inbox in self._inboxes)))
            for inbox in self._inboxes:
                inbox.since = self._asked if inbox.since is None else inbox.since
        self._line.send(self._line.id_of(self._asked), pack_request("subscribe", topics))

    def _receive(self) -> None:
        while (frames := self._line.received()) is not None:
            try:
                self.take_in(frames)
            except ProtocolError as error:
                log.warning("%s: dropped what is no broadcast: %s", self._line.address, error)

    def take_in(self, frames: list[bytes]) -> None:
        """Raises `ProtocolError`."""
        if frames[0] == b"":
            self._dispatch(*_push(frames))
        elif (answer := read_answer(frames, frames[0])) is not None:
            self._answered(int.from_bytes(frames[0][-8:], "big"), answer)

    def _answered(self, number: int, answer: Answer) -> None:
        with self._lock:
            waiting = [inbox for inbox in self._inboxes if not inbox.heard.done()]
        for inbox in waiting:
            if inbox.since is not None and inbox.since <= number:
                inbox.heard.set_result(answer)

    def _dispatch(self, topic: str, body: bytes) -> None:
        with self._lock:
            interested = [inbox for inbox in self._inboxes if topic in inbox.topics]
        for inbox in interested:
            inbox.put(topic, body)


def _push(frames: list[bytes]) -> tuple[str, bytes]:
    if len(frames) != 2:
        raise ProtocolError("expected two frames")
    opened = unpack(frames[1])
    if not (isinstance(opened, list) and len(opened) == 3):
        raise ProtocolError("expected [message, topic, body]")
    _, topic, body = opened
    if not (isinstance(topic, str) and isinstance(body, bytes)):
        raise ProtocolError("a broadcast has a topic and a body")
    return topic, body
