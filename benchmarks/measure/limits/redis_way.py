"""The way of a lone job over Redis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from redis import Redis

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

_GROUP = "group"


def _read_one(redis: Any, stream: str) -> tuple[bytes, bytes]:
    while True:
        if found := redis.xreadgroup(_GROUP, "one", {stream: ">"}, count=1, block=10_000):
            ((_, ((number, entry),)),) = found
            return number, entry[b"body"]


def _end(redis: Any, number: bytes, body: bytes) -> None:
    with redis.pipeline(transaction=True) as ending:
        ending.xadd(RESULTS, {b"body": body}).xack(JOBS, _GROUP, number).xdel(JOBS, number)
        ending.execute()


def _worker(url: str) -> None:
    redis: Any = Redis.from_url(url)
    while True:
        _end(redis, *_read_one(redis, JOBS))


def _careful_worker(url: str) -> None:
    redis: Any = Redis.from_url(url)
    with function() as call:
        while True:
            number, body = _read_one(redis, JOBS)
            _end(redis, number, call(body))


def _collector(url: str, port: int, path: Path) -> None:
    _collect(url, Collecting(port, path))


def _knowing_collector(url: str, port: int, path: Path) -> None:
    collecting = Collecting(port, path)
    answering(port, path)
    _collect(url, collecting)


def _collect(url: str, collecting: Collecting) -> None:
    redis: Any = Redis.from_url(url)
    while True:
        number, body = _read_one(redis, RESULTS)
        collecting.take(body)
        with redis.pipeline(transaction=True) as ending:
            ending.xack(RESULTS, _GROUP, number).xdel(RESULTS, number)
            ending.execute()


class RedisWay(Way):
    packages: ClassVar[Sequence[str]] = ("redis", "hiredis")

    def stations(self) -> tuple[Worker, Collector]:
        return _worker, _collector

    def connect(self) -> None:
        self._redis: Any = Redis.from_url(self.broker)
        for stream in (JOBS, RESULTS):
            self._redis.xgroup_create(stream, _GROUP, mkstream=True)

    def send(self) -> None:
        self._redis.xadd(JOBS, {b"body": BODY})


class RedisPromises(Promises, RedisWay):
    def stations(self) -> tuple[Worker, Collector]:
        return _careful_worker, _knowing_collector

    def tell(self, study: bytes) -> None:
        self._redis.xadd(RESULTS, {b"body": study})
