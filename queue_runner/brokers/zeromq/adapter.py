"""The broker contract over a connection to our ZeroMQ server."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from queue_runner.brokers.base import (
    Broker,
    Dead,
    DeadLetter,
    Delivery,
    Depth,
    Message,
    Retry,
    ServerInfo,
    Subscription,
)
from queue_runner.brokers.checks import check_lease, check_messages, check_name
from queue_runner.brokers.zeromq.client import Connection
from queue_runner.brokers.zeromq.keys import ClientKeys, read_pair, read_public
from queue_runner.brokers.zeromq.protocol import CHUNK_BYTES, CHUNK_MESSAGES

#: What a lease may ask for at once; the server's frames are bounded, and so should a caller be.
_MAX_LEASE = 1000
#: Characters of a dead letter's reason.
_MAX_REASON = 8000

#: What messages have in common that travel together: all but the body.
_ALIKE = attrgetter("queue", "size", "priority", "delay_s", "attempt")

_KEY_OPTIONS = ("key_file", "server_key_file")
_OPTIONS = ("prefix", *_KEY_OPTIONS)


def open_zeromq(url: str) -> ZeroMQBroker:
    """`zmq+tcp://host:port` or `zmq+ipc:///path`. Raises `ValueError`, and `FixThis` for key files.

    Options: `?prefix=NAME`; for a server with keys `key_file=OWN.key&server_key_file=SERVER.pub`.
    """
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := sorted(set(options) - set(_OPTIONS)):
        raise ValueError(
            f"{url}: unknown option {', '.join(unknown)}; there is: {', '.join(_OPTIONS)}"
        )
    prefix = check_name(options.get("prefix", "qr"), "prefix")
    address = f"{parts.scheme.removeprefix('zmq+')}://{parts.netloc}{parts.path}"
    if parts.scheme == "zmq+tcp" and parts.port is None:
        raise ValueError(f"{url}: expected a port, as in zmq+tcp://127.0.0.1:5670")
    return ZeroMQBroker(Connection(address, _keys(options, url)), prefix)


def _keys(options: Mapping[str, str], url: str) -> ClientKeys | None:
    paths = [options[name] for name in _KEY_OPTIONS if name in options]
    if not paths:
        return None
    if len(paths) != len(_KEY_OPTIONS):
        raise ValueError(f"{url}: {' and '.join(_KEY_OPTIONS)} go together")
    own, server = (Path(path).expanduser() for path in paths)
    return ClientKeys(read_pair(own), read_public(server))


class ZeroMQBroker(Broker):
    def __init__(self, connection: Connection, prefix: str) -> None:
        self._connection = connection
        self._prefix = prefix

    def _name(self, queue: str) -> str:
        return f"{self._prefix}:{check_name(queue)}"

    def publish(self, messages: Sequence[Message], timeout_s: float = 30.0) -> None:
        check_messages(messages)
        end = time.monotonic() + timeout_s
        for chunk in _chunks(messages):
            self._call(end, "publish", self._bundles(chunk))

    def _bundles(self, messages: Sequence[Message]) -> list[list[object]]:
        return [
            [
                self._name(queue),
                size,
                priority,
                float(delay_s),
                attempt,
                [message.body for message in alike],
            ]
            for (queue, size, priority, delay_s, attempt), alike in groupby(messages, _ALIKE)
        ]

    def _call(self, end: float, operation: str, *arguments: object) -> object:
        return self._connection.call(max(0.0, end - time.monotonic()), operation, *arguments)

    def lease(
        self,
        queues: Sequence[str],
        limit: int,
        wait_s: float,
        *,
        lease_s: float = 60.0,
        room: int | None = None,
        max_size: int | None = None,
        timeout_s: float = 30.0,
    ) -> list[Delivery]:
        check_lease(queues, limit, lease_s)
        bundles = self._connection.call(
            wait_s + timeout_s,
            "lease",
            [self._name(queue) for queue in queues],
            min(limit, _MAX_LEASE),
            float(max(wait_s, 0.0)),
            float(lease_s),
            room,
            max_size,
        )
        return [
            Delivery(queue, body, size, priority, attempt, (number, token))
            for name, size, priority, token, numbers, attempts, bodies in bundles
            for queue in [name.rpartition(":")[2]]
            for number, attempt, body in zip(numbers, attempts, bodies, strict=True)
        ]

    def renew(
        self, deliveries: Sequence[Delivery], lease_s: float = 60.0, timeout_s: float = 30.0
    ) -> list[Delivery]:
        if not deliveries:
            return []
        lost = self._connection.call(timeout_s, "renew", _receipts(deliveries), float(lease_s))
        return [deliveries[place] for place in lost]

    def settle(
        self,
        done: Sequence[Delivery] = (),
        retry: Sequence[Retry] = (),
        dead: Sequence[Dead] = (),
        publish: Sequence[Message] = (),
        timeout_s: float = 30.0,
    ) -> list[Delivery]:
        check_messages(publish)
        end = time.monotonic() + timeout_s
        *first, last = list(_chunks(publish)) or [[]]
        for chunk in first:
            self._call(end, "publish", self._bundles(chunk))
        retried = [(*_receipt(r.delivery), float(r.delay_s), r.counted) for r in retry]
        buried = [(*_receipt(d.delivery), d.reason[:_MAX_REASON]) for d in dead]
        lost = self._connection.call(
            max(0.0, end - time.monotonic()),
            "settle",
            _receipts(done),
            retried,
            buried,
            self._bundles(last),
        )
        return [
            *(done[place] for place in lost[0]),
            *(retry[place].delivery for place in lost[1]),
            *(dead[place].delivery for place in lost[2]),
        ]

    def broadcast(self, topic: str, body: bytes, timeout_s: float = 10.0) -> None:
        check_name(topic, "topic")
        check_messages([Message("topic", body)])
        self._connection.call(timeout_s, "broadcast", f"{self._prefix}:{topic}", body)

    def subscribe(self, topics: Sequence[str], timeout_s: float = 30.0) -> Subscription:
        names = frozenset(f"{self._prefix}:{check_name(topic, 'topic')}" for topic in topics)
        return self._connection.subscribe(names, timeout_s)

    def depth(self, queue: str, timeout_s: float = 30.0) -> Depth:
        return Depth(*self._connection.call(timeout_s, "depth", self._name(queue)))

    def dead_letters(
        self, queue: str, limit: int = 100, timeout_s: float = 30.0
    ) -> list[DeadLetter]:
        end = time.monotonic() + timeout_s
        letters: list[DeadLetter] = []
        while len(letters) < limit:
            after = int(letters[-1].id) if letters else 0
            wanted = min(limit - len(letters), _MAX_LEASE)
            rows = self._rows(end, "dead-letters", self._name(queue), wanted, after)
            letters += [
                DeadLetter(str(number), queue, body, size, priority, attempt, reason, at)
                for number, _, body, size, priority, attempt, reason, at in rows
            ]
            if not rows:
                break
        return letters

    def _rows(self, end: float, operation: str, *arguments: object) -> list[list[Any]]:
        rows: list[list[Any]] = self._connection.call(
            max(0.0, end - time.monotonic()), operation, *arguments
        )
        return rows

    def replay(self, queue: str, ids: Sequence[str] | None = None, timeout_s: float = 30.0) -> int:
        numbers = None if ids is None else [int(number) for number in ids if number.isdecimal()]
        count: int = self._connection.call(timeout_s, "replay", self._name(queue), numbers)
        return count

    def purge(self, queue: str, timeout_s: float = 30.0) -> int:
        count: int = self._connection.call(timeout_s, "purge", self._name(queue))
        return count

    def server(self, timeout_s: float = 10.0) -> ServerInfo:
        self._connection.call(timeout_s, "ping")
        return ServerInfo("queue-runner broker", version("queue-runner"))

    def close(self) -> None:
        self._connection.close()


def _receipts(deliveries: Sequence[Delivery]) -> list[list[int]]:
    """Their numbers, and their tokens."""
    receipts = [_receipt(delivery) for delivery in deliveries]
    return [[number for number, _ in receipts], [token for _, token in receipts]]


def _receipt(delivery: Delivery) -> tuple[int, int]:
    receipt = delivery.receipt
    if not (isinstance(receipt, tuple) and len(receipt) == 2):
        raise ValueError("a delivery of another broker")
    return receipt


def _chunks(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Requests of a bounded size, so that no frame is too large for the server."""
    chunk: list[Message] = []
    size = 0
    for message in messages:
        if chunk and (size + len(message.body) > CHUNK_BYTES or len(chunk) >= CHUNK_MESSAGES):
            yield chunk
            chunk, size = [], 0
        chunk.append(message)
        size += len(message.body)
    if chunk:
        yield chunk
