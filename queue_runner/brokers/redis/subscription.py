"""Hearing broadcasts: a connection of its own that subscribes again whenever it had to be opened again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from queue_runner.brokers.base import Subscription
from queue_runner.brokers.redis.driver import Wire, set_timeout
from queue_runner.brokers.redis.failures import Passing, speaking_to
from queue_runner.brokers.redis.link import Link

#: Seconds after which a reader looks whether it was closed meanwhile.
_SLICE_S = 0.2
_ANSWER_S = 10.0
#: The same while a reader waits, who asked for a shorter time.
_AGAIN_S = 2.0
_PAUSE_S = 0.2


class RedisSubscription(Subscription):
    def __init__(
        self, link: Link, channels: Sequence[str], forget: Callable[[RedisSubscription], None]
    ) -> None:
        self._link = link
        self._channels = channels
        self._forget = forget
        self._connection: Wire | None = None
        self._lock = threading.Lock()
        self._closed = False

    def start(self, end: float) -> None:
        """Returns when the server has confirmed every channel. Raises as `Link.call` does."""

        def subscribe() -> None:
            with speaking_to(self._link.address.text):
                self._subscribe(min(_ANSWER_S, max(end - time.monotonic(), 0.01)))

        self._link.trying(end, subscribe)

    def _subscribe(self, answer_s: float) -> Wire:
        connection = self._link.open(answer_s)
        try:
            connection.send_command("SUBSCRIBE", *self._channels)
            for _ in self._channels:
                connection.read_response()
        except BaseException:
            connection.disconnect()
            raise
        self._connection = connection
        return connection

    def get(self, timeout_s: float) -> tuple[str, bytes] | None:
        end = time.monotonic() + timeout_s
        while True:
            self._link.check_open()
            left_s = max(end - time.monotonic(), 0.0)
            with self._lock:
                if self._closed:
                    return None
                heard = self._listen(min(left_s, _SLICE_S))
            if self._closed:
                self._finish()
                return None
            if heard is not None or left_s == 0.0:
                return heard

    def _listen(self, wait_s: float) -> tuple[str, bytes] | None:
        try:
            with speaking_to(self._link.address.text):
                connection = self._connection or self._subscribe(_AGAIN_S)
                return self._read(connection, wait_s)
        except Passing:
            # what is broadcast now is missed, as the contract says; the next turn subscribes again
            self._drop()
            time.sleep(min(_PAUSE_S, wait_s))
            return None

    def _read(self, connection: Wire, wait_s: float) -> tuple[str, bytes] | None:
        if not connection.can_read(wait_s):
            return None
        set_timeout(connection, _ANSWER_S)
        kind, channel, body = connection.read_response()
        if kind != b"message":
            return None
        return channel.decode().rpartition(":")[2], body

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def close(self) -> None:
        """A reader that subscribes at this moment, and waits for the name of a server that has gone,
        drops the connection itself when it is back."""
        self._closed = True
        self._finish()
        self._forget(self)

    def _finish(self) -> None:
        if self._lock.acquire(timeout=2 * _SLICE_S):
            try:
                self._drop()
            finally:
                self._lock.release()
