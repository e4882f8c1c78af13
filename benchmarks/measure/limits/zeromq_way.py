"""The way of a lone job over a ZeroMQ server before a journal, which has what it answers in SQLite."""

from __future__ import annotations

import socket
import sqlite3
from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import zmq

from measure.limits.base import BODY
from measure.limits.way import (
    JOBS,
    RESULTS,
    Collecting,
    Collector,
    Promises,
    Way,
    Worker,
    answering,
    function,
)

_NOTHING = b""


def _server(address: str, path: Path) -> None:
    """A request is [queue, body, number, from]: a message to be stored in a queue, the number of one to be
    forgotten, a queue to take the next from; each may be nothing. Who takes is answered when there is one.
    """
    journal = sqlite3.connect(path, isolation_level=None)
    journal.execute("PRAGMA journal_mode=WAL")
    journal.execute("PRAGMA synchronous=NORMAL")
    journal.execute("CREATE TABLE message (id INTEGER PRIMARY KEY, queue BLOB, body BLOB)")
    journal.execute("CREATE TABLE lease (message INTEGER PRIMARY KEY)")
    ready: defaultdict[bytes, deque[tuple[int, bytes]]] = defaultdict(deque)
    takers: defaultdict[bytes, deque[bytes]] = defaultdict(deque)
    router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    router.bind(address)
    while True:
        who, queue, body, number, wanted = router.recv_multipart()
        answers: list[list[bytes]] = []
        journal.execute("BEGIN IMMEDIATE")
        if number:
            journal.execute("DELETE FROM message WHERE id = ?", (int(number),))
            journal.execute("DELETE FROM lease WHERE message = ?", (int(number),))
        if queue:
            added = journal.execute(
                "INSERT INTO message (queue, body) VALUES (?, ?) RETURNING id", (queue, body)
            ).fetchone()
            ready[queue].append((added[0], body))
        if wanted:
            takers[wanted].append(who)
        else:
            answers.append([who, _NOTHING, _NOTHING])
        for name in filter(None, (queue, wanted)):
            while ready[name] and takers[name]:
                key, content = ready[name].popleft()
                journal.execute("INSERT INTO lease VALUES (?)", (key,))
                answers.append([takers[name].popleft(), b"%d" % key, content])
        journal.execute("COMMIT")
        for answer in answers:
            router.send_multipart(answer)


class _Asking:
    def __init__(self, address: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.connect(address)

    def put(self, queue: str, body: bytes, number: bytes = _NOTHING) -> None:
        self._ask(queue.encode(), body, number, _NOTHING)

    def forget(self, number: bytes) -> None:
        self._ask(_NOTHING, _NOTHING, number, _NOTHING)

    def take(self, queue: str) -> tuple[bytes, bytes]:
        return self._ask(_NOTHING, _NOTHING, _NOTHING, queue.encode())

    def _ask(self, *request: bytes) -> tuple[bytes, bytes]:
        self._socket.send_multipart(request)
        number, body = self._socket.recv_multipart()
        return number, body


def _worker(address: str) -> None:
    broker = _Asking(address)
    while True:
        number, body = broker.take(JOBS)
        broker.put(RESULTS, body, number)


def _careful_worker(address: str) -> None:
    broker = _Asking(address)
    with function() as call:
        while True:
            number, body = broker.take(JOBS)
            broker.put(RESULTS, call(body), number)


def _collector(address: str, port: int, path: Path) -> None:
    _collect(_Asking(address), Collecting(port, path))


def _knowing_collector(address: str, port: int, path: Path) -> None:
    collecting = Collecting(port, path)
    answering(port, path)
    _collect(_Asking(address), collecting)


def _collect(broker: _Asking, collecting: Collecting) -> None:
    while True:
        number, body = broker.take(RESULTS)
        collecting.take(body)
        broker.forget(number)


class ZeromqWay(Way):
    packages: ClassVar[Sequence[str]] = ("pyzmq",)

    def stations(self) -> tuple[Worker, Collector]:
        return _worker, _collector

    def connect(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.broker = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.run(_server, self.broker, self.place.folder / "journal.sqlite")
        self._asking = _Asking(self.broker)

    def send(self) -> None:
        self._asking.put(JOBS, BODY)


class ZeromqPromises(Promises, ZeromqWay):
    def stations(self) -> tuple[Worker, Collector]:
        return _careful_worker, _knowing_collector

    def tell(self, study: bytes) -> None:
        self._asking.put(RESULTS, study)
