"""The way of a lone job with nothing in it but its stations: by way of a broker from the client to a worker,
and from there to a collector, which commits the result to SQLite and tells the client.

As a queue with these stations can have it at best in Python: raw clients, one thread in each process, bodies
that nobody reads, and a socket for the answer. Persistent messages, acknowledged when what follows from them
is stored, as everywhere here.

`RedisPromises` is the same way with what queue-runner promises besides: that nothing is sent which is done
already, for which the collector is asked; that the study is known, for which there is a second message; and
that a function harms no worker, for which it has a process of its own. Still nothing is in any of them.
"""

from __future__ import annotations

import itertools
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

import pika
from redis import Redis

from measure.contender import Contender, Effort, Figures, Place, lone_jobs
from measure.limits.base import BODY

_JOBS, _RESULTS, _GROUP = "way-jobs", "way-results", "group"
_WARM_UP = 20
_PERSISTENT = pika.BasicProperties(delivery_mode=2)


class _Way(Contender):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._broker = os.environ["BENCH_BROKER"]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._processes: list[Any] = []

    @abstractmethod
    def stations(self) -> tuple[Callable[[str], None], Callable[[str, int, Path], None]]:
        """What runs in the processes of worker and collector: of a broker's URL; of a port and a database."""

    @abstractmethod
    def connect(self) -> None:
        """To the broker, whose queues are there afterwards."""

    @abstractmethod
    def send(self) -> None:
        """A job, until it is stored."""

    def start(self) -> None:
        self.connect()
        context = get_context("spawn")
        port = self._listener.getsockname()[1]
        database = self.place.folder / "way.sqlite"
        worker, collector = self.stations()
        self._processes = [
            context.Process(target=worker, args=(self._broker,), daemon=True),
            context.Process(target=collector, args=(self._broker, port, database), daemon=True),
        ]
        for process in self._processes:
            process.start()
        self._answers, _ = self._listener.accept()

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        self._answers.close()
        self._listener.close()

    def measure(self, workload: str, effort: Effort) -> Figures:
        for _ in range(_WARM_UP):
            self._one_s()
        return lone_jobs(self._one_s, effort)

    def _one_s(self) -> float:
        began = time.perf_counter()
        self.send()
        if self._answers.recv(len(BODY), socket.MSG_WAITALL) != BODY:
            raise RuntimeError("another answer came than was sent")
        return time.perf_counter() - began


class _Collecting:
    """Results become rows, and are told then."""

    def __init__(self, port: int, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        # as the collector has it; see docs/decisions/told-before-flushed.md
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute("CREATE TABLE result (number INTEGER PRIMARY KEY, body BLOB)")
        self._client = socket.create_connection(("127.0.0.1", port))
        self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def take(self, body: bytes) -> None:
        self._database.execute("INSERT INTO result (body) VALUES (?)", (body,))
        self._client.sendall(body)

    def know_studies(self) -> None:
        self._database.execute("CREATE TABLE study (id BLOB PRIMARY KEY)")

    def know(self, study: bytes) -> None:
        self._database.execute("INSERT INTO study VALUES (?)", (study,))


# -- Redis -------------------------------------------------------------------------------------------


def _read_one(redis: Any, stream: str) -> tuple[bytes, bytes]:
    while True:
        if found := redis.xreadgroup(_GROUP, "one", {stream: ">"}, count=1, block=10_000):
            ((_, ((number, entry),)),) = found
            return number, entry[b"body"]


def _redis_worker(url: str) -> None:
    redis: Any = Redis.from_url(url)
    while True:
        number, body = _read_one(redis, _JOBS)
        with redis.pipeline(transaction=True) as ending:
            ending.xadd(_RESULTS, {b"body": body}).xack(_JOBS, _GROUP, number).xdel(_JOBS, number)
            ending.execute()


def _redis_collector(url: str, port: int, path: Path) -> None:
    redis: Any = Redis.from_url(url)
    collecting = _Collecting(port, path)
    while True:
        number, body = _read_one(redis, _RESULTS)
        collecting.take(body)
        with redis.pipeline(transaction=True) as ending:
            ending.xack(_RESULTS, _GROUP, number).xdel(_RESULTS, number)
            ending.execute()


class RedisWay(_Way):
    packages: ClassVar[Sequence[str]] = ("redis", "hiredis")

    def stations(self) -> tuple[Callable[[str], None], Callable[[str, int, Path], None]]:
        return _redis_worker, _redis_collector

    def connect(self) -> None:
        self._redis: Any = Redis.from_url(self._broker)
        for stream in (_JOBS, _RESULTS):
            self._redis.xgroup_create(stream, _GROUP, mkstream=True)

    def send(self) -> None:
        self._redis.xadd(_JOBS, {b"body": BODY})


class RedisPromises(RedisWay):
    """Its bodies begin with a number: the study that they are of."""

    def stations(self) -> tuple[Callable[[str], None], Callable[[str, int, Path], None]]:
        return _careful_worker, _knowing_collector

    def start(self) -> None:
        super().start()
        self._questions, _ = self._listener.accept()
        self._studies = itertools.count(1)

    def stop(self) -> None:
        super().stop()
        self._questions.close()

    def send(self) -> None:
        study = next(self._studies).to_bytes(_STUDY_BYTES)
        self._questions.sendall(study)
        if self._questions.recv(1) != _UNKNOWN:
            raise RuntimeError("a study is known that was never sent")
        self._redis.xadd(_JOBS, {b"body": BODY})
        self._redis.xadd(_RESULTS, {b"body": study})


#: All that a process needs to be one that calls functions.
_FUNCTION = "import os\nwhile job := os.read(0, 65536): os.write(1, job)"
_STUDY_BYTES, _UNKNOWN, _KNOWN = 8, b"0", b"1"


def _careful_worker(url: str) -> None:
    redis: Any = Redis.from_url(url)
    with subprocess.Popen(
        [sys.executable, "-c", _FUNCTION], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as function:
        assert function.stdin is not None
        assert function.stdout is not None
        asks, answers = function.stdin.fileno(), function.stdout.fileno()
        while True:
            number, body = _read_one(redis, _JOBS)
            os.write(asks, body)
            result = os.read(answers, len(body))
            with redis.pipeline(transaction=True) as ending:
                ending.xadd(_RESULTS, {b"body": result}).xack(_JOBS, _GROUP, number)
                ending.xdel(_JOBS, number).execute()


def _knowing_collector(url: str, port: int, path: Path) -> None:
    redis: Any = Redis.from_url(url)
    collecting = _Collecting(port, path)
    asking = socket.create_connection(("127.0.0.1", port))
    asking.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    collecting.know_studies()
    threading.Thread(target=_answer, args=(asking, path), daemon=True).start()
    while True:
        number, body = _read_one(redis, _RESULTS)
        if len(body) == _STUDY_BYTES:
            collecting.know(body)
        else:
            collecting.take(body)
        with redis.pipeline(transaction=True) as ending:
            ending.xack(_RESULTS, _GROUP, number).xdel(_RESULTS, number)
            ending.execute()


def _answer(asking: socket.socket, path: Path) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    while study := asking.recv(_STUDY_BYTES, socket.MSG_WAITALL):
        row = database.execute("SELECT 1 FROM study WHERE id = ?", (study,)).fetchone()
        asking.sendall(_UNKNOWN if row is None else _KNOWN)


# -- RabbitMQ ----------------------------------------------------------------------------------------


class _Consumer:
    """`take` is called with each message of a queue, and says whether that is over; else it is when what it
    has published is confirmed.
    """

    def __init__(self, url: str, queue: str, take: Callable[[bytes, Any], bool]) -> None:
        self._queue, self._take = queue, take
        self._connection = pika.SelectConnection(
            pika.URLParameters(url), on_open_callback=self._opened
        )

    def run(self) -> None:
        self._connection.ioloop.start()

    def _opened(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._consume)

    def _consume(self, channel: Any) -> None:
        channel.confirm_delivery(lambda _: self._acknowledge())
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(self._queue, self._on_message)

    def _on_message(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._acknowledge = partial(channel.basic_ack, method.delivery_tag)
        if self._take(body, channel):
            self._acknowledge()


def _rabbitmq_worker(url: str) -> None:
    def take(body: bytes, channel: Any) -> bool:
        channel.basic_publish("", _RESULTS, body, _PERSISTENT)
        return False

    _Consumer(url, _JOBS, take).run()


def _rabbitmq_collector(url: str, port: int, path: Path) -> None:
    collecting = _Collecting(port, path)

    def take(body: bytes, channel: Any) -> bool:
        collecting.take(body)
        return True

    _Consumer(url, _RESULTS, take).run()


class RabbitmqWay(_Way):
    packages: ClassVar[Sequence[str]] = ("pika",)

    def stations(self) -> tuple[Callable[[str], None], Callable[[str, int, Path], None]]:
        return _rabbitmq_worker, _rabbitmq_collector

    def connect(self) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(self._broker))
        self._channel = self._connection.channel()
        for queue in (_JOBS, _RESULTS):
            self._channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        self._channel.confirm_delivery()

    def send(self) -> None:
        self._channel.basic_publish("", _JOBS, BODY, _PERSISTENT)

    def stop(self) -> None:
        super().stop()
        self._connection.close()
