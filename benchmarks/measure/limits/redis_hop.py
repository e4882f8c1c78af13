"""A message through a Redis stream: added, read by a group, acknowledged and deleted, in pipelines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

from redis import Redis

from measure.contender import Place
from measure.limits.base import BODY, Limit

_BURST = 500
_STREAM, _GROUP = "hop", "group"


class RedisHopLimit(Limit):
    packages: ClassVar[Sequence[str]] = ("redis", "hiredis")

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._redis: Any = Redis.from_url(os.environ["BENCH_BROKER"])

    def start(self) -> None:
        self._redis.xgroup_create(_STREAM, _GROUP, mkstream=True)

    def stop(self) -> None:
        self._redis.close()

    def burst(self) -> int:
        adding = self._redis.pipeline(transaction=False)
        for _ in range(_BURST):
            adding.xadd(_STREAM, {b"body": BODY})
        adding.execute()
        ((_, entries),) = self._redis.xreadgroup(_GROUP, "one", {_STREAM: ">"}, count=_BURST)
        ids = [number for number, _ in entries]
        ending = self._redis.pipeline(transaction=False)
        ending.xack(_STREAM, _GROUP, *ids)
        ending.xdel(_STREAM, *ids)
        ending.execute()
        return len(ids)
