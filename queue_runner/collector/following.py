"""Results over one answer that stays open, for who would ask again at once.

Its parts are what `arrivals` answers, in msgpack, each after its length: 4 bytes, big endian. The first comes
at once; one more whenever results have been committed, and one without any after `BEAT_S` seconds of nothing,
by which each side knows of the other. The last is the one that says that all have come, or any after
`LASTS_S` seconds: who wants more asks anew, now and then perhaps another collector.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import msgpack
from starlette.concurrency import run_in_threadpool

from queue_runner.collector.patience import most_connections
from queue_runner.collector.routes import Api, Packed, Request, Route, more
from queue_runner.collector.waiting import waiting
from queue_runner.errors import TryLater
from queue_runner.records import LENGTH_BYTES

BEAT_S = 5
LASTS_S = 600.0


class Follow:
    """Opens such answers, but no more than half of the connections that there may be: who has none asks."""

    def __init__(self) -> None:
        self._open = 0

    async def __call__(self, api: Api, route: Route, request: Request) -> AsyncIterator[bytes]:
        """Raises `NotFound`, `BadRequest`, `TryLater`, before anything is sent."""
        if self._open >= most_connections() // 2:
            raise TryLater("too many follow results already; ask with format=msgpack")
        answer = await run_in_threadpool(route.answer, api, request)
        return self._parts(api, route, request, answer)

    async def _parts(
        self, api: Api, route: Route, request: Request, answer: Packed
    ) -> AsyncIterator[bytes]:
        self._open += 1
        end = time.monotonic() + LASTS_S
        try:
            with waiting(api, route, request.path["study"]) as waits:
                while True:
                    packed = msgpack.packb(answer.value, use_bin_type=True)
                    yield len(packed).to_bytes(LENGTH_BYTES, "big") + packed
                    if answer.value["done"] and not more(request):
                        return
                    if api.database.news.closed or time.monotonic() >= end:
                        return
                    went_on = {"cursor": str(answer.value["cursor"]), "wait": str(BEAT_S)}
                    asked = replace(request, query={**request.query, **went_on})
                    answer = await waits.answer(asked)
        finally:
            self._open -= 1
