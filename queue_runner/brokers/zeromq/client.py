"""The client's connection: a channel for each thread that asks at the same time, and a listener."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

import zmq

from queue_runner.brokers.base import Subscription
from queue_runner.brokers.zeromq.channel import Channel, Closing, Line
from queue_runner.brokers.zeromq.keys import ClientKeys
from queue_runner.brokers.zeromq.listener import Inbox, Listener
from queue_runner.brokers.zeromq.protocol import Status, pack_request
from queue_runner.errors import BrokerRefused, BrokerUnavailable

#: Seconds that the last messages get: sockets linger for less.
_TERM_S = 2.0


class Connection:
    """Requests and answers, and broadcasts. All methods may be called from any thread.

    Raises `ValueError` for what is no address.
    """

    def __init__(self, address: str, keys: ClientKeys | None = None) -> None:
        self.address = address
        self._keys = keys
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        # never read: it wakes all that wait
        self._ending = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._changed = threading.Condition()
        self._closed = False
        self._in_use = 0
        self._listener: Listener | None = None
        try:
            self._idle = [self._channel()]
        except ValueError:
            self._context.term()
            os.close(self._ending)
            raise

    def _channel(self) -> Channel:
        return Channel(self._line(), self._ending)

    def _line(self) -> Line:
        return Line(self._context, self.address, self._keys)

    def call(self, timeout_s: float, operation: str, *arguments: object) -> Any:
        """Send a request and wait for its answer.

        Raises `BrokerUnavailable` past the deadline, and what the server's answer says.
        """
        frame = pack_request(operation, *arguments)
        with self._borrowed() as channel:
            try:
                status, value = channel.ask(frame, timeout_s)
            except TimeoutError as error:
                raise self._unanswered(timeout_s) from error
            except Closing as error:
                raise self._was_closed() from error
        return _value_of(self.address, status, value)

    @contextmanager
    def _borrowed(self) -> Iterator[Channel]:
        with self._changed:
            if self._closed:
                raise self._was_closed()
            channel = self._idle.pop() if self._idle else self._channel()
            self._in_use += 1
        try:
            yield channel
        finally:
            with self._changed:
                self._in_use -= 1
                self._idle.append(channel)
                self._changed.notify_all()

    def _unanswered(self, timeout_s: float) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"zmq+{self.address}: no answer from the broker server within {timeout_s:g} s."
            " Is `queue-runner broker` running there?"
        )

    def _was_closed(self) -> BrokerUnavailable:
        return BrokerUnavailable(f"zmq+{self.address}: this connection was closed")

    def subscribe(self, topics: frozenset[str], timeout_s: float) -> _QueueSubscription:
        inbox = Inbox(topics)
        with self._changed:
            if self._closed:
                raise self._was_closed()
            if self._listener is None:
                self._listener = Listener(self._line(), inbox)
            else:
                self._listener.add(inbox)
            listener = self._listener
        subscription = _QueueSubscription(listener, inbox)
        try:
            _value_of(self.address, *inbox.heard.result(timeout_s))
        except BaseException as error:
            subscription.close()
            if isinstance(error, TimeoutError):
                raise self._unanswered(timeout_s) from error
            if isinstance(error, CancelledError):
                raise self._was_closed() from error
            raise
        return subscription

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            os.eventfd_write(self._ending, 1)
            self._changed.wait_for(lambda: self._in_use == 0)
        if self._listener is not None:
            self._listener.close()
        for channel in self._idle:
            channel.close()
        self._end_context()
        os.close(self._ending)

    def _end_context(self) -> None:
        # libzmq asks for the server's name in its own thread, and its end waits for the answer
        ending = threading.Thread(target=self._context.term, name="zeromq-term", daemon=True)
        ending.start()
        ending.join(_TERM_S)


class _QueueSubscription(Subscription):
    def __init__(self, listener: Listener, inbox: Inbox) -> None:
        self._listener = listener
        self._inbox = inbox

    def get(self, timeout_s: float) -> tuple[str, bytes] | None:
        try:
            topic, body = self._inbox.messages.get(timeout=max(timeout_s, 0.0001))
        except queue.Empty:
            return None
        return topic.rpartition(":")[2], body

    def close(self) -> None:
        self._listener.remove(self._inbox)


def _value_of(address: str, status: str, value: Any) -> Any:
    if status == Status.OK:
        return value
    text = f"zmq+{address}: {value}"
    if status == Status.BAD_VALUE:
        raise ValueError(text)
    if status == Status.UNAVAILABLE:
        raise BrokerUnavailable(text)
    raise BrokerRefused(text)
