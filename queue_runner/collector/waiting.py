"""Answers that are kept back until there is something to tell, so that nobody has to ask again and again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.concurrency import run_in_threadpool

from queue_runner.collector.news import Added, Told
from queue_runner.collector.routes import Api, Request, Route, wait_s
from queue_runner.errors import NotFound

#: Seconds between looks: another collector may have written to the same database.
_LOOK_S = 1.0
#: News that are kept for one who is still being told of others; where there are more, the database tells.
_MOST_HEARD = 8


@contextmanager
def waiting(api: Api, route: Route, study: str) -> Iterator[Waiting]:
    """In the event loop that serves."""
    made = Waiting(api, route, study)
    with api.database.news.listening(made.wake):
        yield made


class Waiting:
    """Hears what is committed of a study: who has been told all that came before is told from that alone."""

    def __init__(self, api: Api, route: Route, study: str) -> None:
        assert route.later is not None
        assert route.added is not None
        assert route.nothing is not None
        self._api, self._route, self._study = api, route, study
        self._later, self._added, self._nothing = route.later, route.added, route.nothing
        self._loop = asyncio.get_running_loop()
        #: None: something that only the database tells.
        self._heard: deque[Added | None] = deque()
        self._changed: asyncio.Future[None] | None = None
        #: Whether all that the database has was told, or is in `_heard`.
        self._abreast = False

    def wake(self, told: Told | None) -> None:
        """Called from other threads."""
        if told is None:
            self._loop.call_soon_threadsafe(self._hear, None)
        elif self._study in told:
            self._loop.call_soon_threadsafe(self._hear, told[self._study])
        elif any(_is(self._study, each) for each in told):
            self._loop.call_soon_threadsafe(self._hear, None)

    def _hear(self, added: Added | None) -> None:
        if len(self._heard) >= _MOST_HEARD:
            self._heard.clear()
            added = None
        self._heard.append(added)
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def answer(self, request: Request) -> Any:
        """What the route answers, as soon as it is not nothing, or `wait` seconds are over.

        A study that is not known may have been submitted a moment ago. Raises `NotFound` in the end.
        """
        end = self._loop.time() + wait_s(request)
        while True:
            if (answer := self._from_news(request)) is not None:
                return answer
            left_s = 0.0 if self._api.database.news.closed else end - self._loop.time()
            if left_s <= 0 or not self._abreast:
                answer = await self._from_database(request, last=left_s <= 0)
                if answer is not None:
                    return answer
            await self._change(min(left_s, _LOOK_S))

    def _from_news(self, request: Request) -> Any | None:
        if not self._heard:
            return None
        first = self._heard.popleft()
        answer = None if first is None else self._added(request, first)
        self._abreast = answer is not None
        if answer is None:
            # it is in the database, and so is what was heard since
            self._heard.clear()
        return answer

    async def _from_database(self, request: Request, last: bool) -> Any | None:
        self._abreast = False
        try:
            # most often there is nothing yet, which needs no thread
            if last or not self._nothing(self._api, request):
                answer = await run_in_threadpool(self._route.answer, self._api, request)
                if last or not self._later(request, answer):
                    return answer
        except NotFound:
            if last:
                raise
        return None

    async def _change(self, within_s: float) -> None:
        if self._heard:
            return
        self._changed = self._loop.create_future()
        try:
            async with asyncio.timeout(within_s):
                await self._changed
        except TimeoutError:
            self._abreast = False
        finally:
            self._changed = None


def _is(study: str, changed: str) -> bool:
    """Whether the id of a study that changed is what was asked for: an id, or a name."""
    return changed == study or changed.rpartition("-")[0] == study
