"""Answers that are kept back until there is something to tell, so that nobody has to ask again and again."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.concurrency import run_in_threadpool

from queue_runner.collector.news import Added, Told
from queue_runner.collector.routes import Api, Request, Route, wait_s
from queue_runner.errors import NotFound

#: Seconds between looks: another collector may have written to the same database.
_LOOK_S = 1.0


async def awaited(api: Api, route: Route, request: Request) -> Any:
    """What the route answers, as soon as it is not nothing, or `wait` seconds are over.

    A study that is not known may have been submitted a moment ago. Raises `NotFound` in the end.
    """
    assert route.later is not None
    assert route.added is not None
    assert route.nothing is not None
    loop, changed, study = asyncio.get_running_loop(), asyncio.Event(), request.path["study"]
    end = loop.time() + wait_s(request)

    first: Added | None = None

    def hear(added: Added | None) -> None:
        nonlocal first
        if not changed.is_set():
            first = added
        changed.set()

    def wake(told: Told | None) -> None:
        if told is None:
            loop.call_soon_threadsafe(hear, None)
        elif study in told:
            loop.call_soon_threadsafe(hear, told[study])
        elif any(_is(study, each) for each in told):
            loop.call_soon_threadsafe(hear, None)

    news = api.database.news
    with news.listening(wake):
        while True:
            changed.clear()
            first = None
            left_s = 0.0 if news.closed else end - loop.time()
            try:
                # most often there is nothing yet, which needs no thread
                if left_s <= 0 or not route.nothing(api, request):
                    answer = await run_in_threadpool(route.answer, api, request)
                    if left_s <= 0 or not route.later(request, answer):
                        return answer
            except NotFound:
                if left_s <= 0:
                    raise
            try:
                await asyncio.wait_for(changed.wait(), min(left_s, _LOOK_S))
            except TimeoutError:
                continue
            if first is not None and (answer := route.added(request, first)) is not None:
                return answer


def _is(study: str, changed: str) -> bool:
    """Whether the id of a study that changed is what was asked for: an id, or a name."""
    return changed == study or changed.rpartition("-")[0] == study
