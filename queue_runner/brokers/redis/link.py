"""Connections to one server: opened and checked when needed, tried again until the caller's deadline."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from queue_runner.brokers.redis.address import Address
from queue_runner.brokers.redis.driver import Wire, cut, make_wire, set_timeout
from queue_runner.brokers.redis.failures import Passing, ScriptMissing, Unanswered, speaking_to
from queue_runner.brokers.redis.scripts import Script
from queue_runner.brokers.redis.sentinel import doubts, primary
from queue_runner.brokers.redis.server import check
from queue_runner.brokers.redis.tls import explaining_tls
from queue_runner.errors import BrokerUnavailable

T = TypeVar("T")
Command = tuple[Any, ...]

#: Seconds one answer is waited for before it is asked again on a new connection: a host that vanished
#: says nothing, and a caller with a long deadline must not spend all of it on a dead connection.
_ANSWER_S = 10.0
_PAUSE_FIRST_S, _PAUSE_MAX_S = 0.02, 1.0
#: Seconds that replicas are waited for before it is asked whether the primary is still the same.
_REPLICAS_S = 1.0


class Link:
    """Any thread may call; each call has a connection to itself, so none waits behind a blocking one."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.root = f"{{{address.prefix}}}"
        self._idle: list[Wire] = []
        self._busy: set[Wire] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def call(self, end: float, *command: Any) -> Any:
        """The answer to a command; `end` by `time.monotonic`.

        Raises `BrokerUnavailable` past `end`, `BrokerRefused`.
        """
        return self.trying(end, lambda: self._ask(end, (command,)))

    def run_woken(
        self, end: float, block_s: float, block: Command, script: Script, *arguments: Any
    ) -> Any | None:
        """The answer of a script that the server runs as soon as a blocking command is over, of up to
        `block_s` seconds; None where that cannot be told.

        The caller asks once more then, with a deadline, and so hears of a server that is gone; waiting the
        same time again here would only make it late.
        """
        try:
            return self._ask(end, (block, self._by_hash(script, arguments)), block_s)
        except Passing:
            self._closed.wait(_PAUSE_FIRST_S)
        except ScriptMissing:
            # `run` sends it whole
            pass
        return None

    def run(self, end: float, script: Script, *arguments: Any) -> Any:
        """The answer of a script, once enough replicas have what it stored. Raises as `call` does."""
        copies = self.address.wait_replicas if script.stores else 0

        def ask() -> Any:
            try:
                return self._ask(end, (self._by_hash(script, arguments),), copies=copies)
            except ScriptMissing:
                whole = ("EVAL", script.source, 1, self.root, *arguments)
                return self._ask(end, (whole,), copies=copies)

        return self.trying(end, ask)

    def _by_hash(self, script: Script, arguments: Command) -> Command:
        return ("EVALSHA", script.sha, 1, self.root, *arguments)

    def doubts(self, end: float) -> str | None:
        """Why the Sentinels could not replace the primary. Raises as `call` does."""

        def ask() -> str | None:
            with speaking_to(self.address.text):
                return doubts(self.address, _ANSWER_S)

        return self.trying(end, ask)

    def trying(self, end: float, work: Callable[[], T]) -> T:
        pause_s = _PAUSE_FIRST_S
        told: Passing | None = None
        while True:
            self.check_open()
            began = time.monotonic()
            try:
                return work()
            except Passing as error:
                now = time.monotonic()
                # what the deadline cut short says less than what was answered before
                if told is None or not isinstance(error, Unanswered) or now - began >= _ANSWER_S:
                    told = error
                left_s = end - now
                if left_s <= 0 or self._closed.is_set():
                    raise self._unavailable(told) from error
                self._closed.wait(min(left_s, pause_s * random.uniform(0.5, 1.0)))
                pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    def check_open(self) -> None:
        if self._closed.is_set():
            raise BrokerUnavailable(f"{self.address.text}: this connection was closed")

    def _unavailable(self, error: Passing) -> BrokerUnavailable:
        what = "a Redis server" if self.address.service is None else "a Sentinel"
        return BrokerUnavailable(
            f"{self.address.text}: no success before the deadline; last: {str(error).rstrip('.')}."
            f" Is {what} running at {self.address.where}?"
        )

    def _ask(
        self, end: float, commands: Sequence[Command], block_s: float = 0.0, copies: int = 0
    ) -> Any:
        """The answer to the last of commands that are sent together."""
        answer_s = min(_ANSWER_S, max(end - time.monotonic(), 0.01))
        with speaking_to(self.address.text):
            connection = self._take(answer_s)
            self._begin(connection)
            try:
                set_timeout(connection, block_s + answer_s)
                _send(connection, commands)
                answer = _last_answer(connection, len(commands))
                if copies:
                    self._await_copies(connection, copies, end)
            except BaseException as error:
                # an answer that says no leaves the connection in step; anything else may not
                self._put_back(connection, in_step=_is_answer(error))
                if isinstance(error, ReadOnlyError):
                    # the other idle ones lead there, too
                    self._drop_idle()
                raise
            self._put_back(connection, in_step=True)
            return answer

    def _await_copies(self, connection: Wire, copies: int, end: float) -> None:
        """Wait until so many replicas have what this connection has written."""
        while True:
            wait_s = min(_REPLICAS_S, max(end - time.monotonic(), 0.001))
            set_timeout(connection, wait_s + _ANSWER_S)
            connection.send_command("WAIT", copies, int(wait_s * 1000))
            there = connection.read_response()
            if there >= copies:
                return
            if time.monotonic() >= end or self._has_moved(connection):
                raise Passing(
                    f"{there} of {copies} replicas have taken in what was stored (wait_replicas in the"
                    " URL), so it may be lost if the primary fails; `redis-cli INFO replication` on"
                    " the primary tells which are missing"
                )

    def _has_moved(self, connection: Wire) -> bool:
        """Whether the primary is another server now: what is written here will be thrown away."""
        return primary(self.address, _ANSWER_S) != (connection.host, connection.port)

    def _take(self, answer_s: float) -> Wire:
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if not _is_stale(connection):
                    return connection
                connection.disconnect()
        return self.open(answer_s)

    def open(self, answer_s: float) -> Wire:
        """A connection of one's own, checked; raises what the driver raises, and `BrokerRefused`."""
        address = self.address
        host, port = primary(address, answer_s)
        connection = make_wire(
            host, port, answer_s, db=address.db, login=address.login, tls=address.tls
        )
        self._begin(connection)
        try:
            with explaining_tls(address, host, port, answer_s):
                connection.connect()
                check(connection, address)
        except BaseException:
            connection.disconnect()
            raise
        finally:
            with self._lock:
                self._busy.discard(connection)
        return connection

    def _begin(self, connection: Wire) -> None:
        with self._lock:
            self._busy.add(connection)
            closed = self._closed.is_set()
        if closed:
            cut(connection)

    def _put_back(self, connection: Wire, in_step: bool) -> None:
        with self._lock:
            self._busy.discard(connection)
            if in_step and not self._closed.is_set():
                self._idle.append(connection)
                return
        connection.disconnect()

    def close(self) -> None:
        """Whoever waits for an answer is woken: it may be that of a server that has gone."""
        self._closed.set()
        self._drop_idle()
        with self._lock:
            busy = tuple(self._busy)
        for connection in busy:
            cut(connection)

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.disconnect()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()


def _send(connection: Wire, commands: Sequence[Command]) -> None:
    if len(commands) == 1:
        connection.send_command(*commands[0])
    else:
        parts = [part for command in commands for part in connection.pack_command(*command)]
        connection.send_packed_command([b"".join(parts)])


def _last_answer(connection: Wire, count: int) -> Any:
    """Raises the first that says no; all have been read then."""
    answer, refusal = None, None
    for _ in range(count):
        try:
            answer = connection.read_response()
        except ResponseError as error:
            refusal = refusal or error
    if refusal is not None:
        raise refusal
    return answer


def _is_stale(connection: Wire) -> bool:
    """Nothing is expected on an idle connection: what is there is its end."""
    try:
        return bool(connection.can_read(0))
    except (RedisError, OSError):
        return True


def _is_answer(error: BaseException) -> bool:
    return isinstance(error, ResponseError) and not isinstance(error, ReadOnlyError)
