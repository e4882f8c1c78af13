"""Who waits for results is told of them from the news, and of what these do not have from the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from queue_runner.collector import waiting as module
from queue_runner.collector.database import Database
from queue_runner.collector.routes import ROUTES, Api, Request, Route
from queue_runner.collector.waiting import Waiting, waiting
from queue_runner.errors import NotFound
from queue_runner.model import Result, State, StudyRecord
from queue_runner.wire import decode

STUDY = "s-0123456789"
(ARRIVALS,) = (route for route in ROUTES if route.path.endswith("/arrivals"))


def result(index: int) -> Result:
    return Result(f"{STUDY}.{index:07}", STUDY, index, 1, State.SUCCEEDED, True, {"x": index})


def question(cursor: int, limit: int = 1000, wait: str = "20") -> Request:
    query = {"cursor": str(cursor), "wait": wait, "format": "msgpack", "limit": str(limit)}
    return Request({"study": STUDY}, query, None)


class Looks:
    """The route, and how often the database was looked at for it."""

    def __init__(self) -> None:
        self.count = 0

    def route(self) -> Route:
        nothing, answer = ARRIVALS.nothing, ARRIVALS.answer
        assert nothing is not None

        def glancing(api: Api, request: Request) -> bool:
            self.count += 1
            return nothing(api, request)

        def answering(api: Api, request: Request) -> Any:
            self.count += 1
            return answer(api, request)

        return replace(ARRIVALS, nothing=glancing, answer=answering)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(f"sqlite:///{tmp_path}/c.sqlite")) as opened:
        opened.apply([StudyRecord(STUDY, "s", "command", 100, ("x",), {}, None, "q", 1.0)])
        yield opened


def asking(
    database: Database, looks: Looks, ask: Callable[[Waiting], Awaitable[None]], study: str = STUDY
) -> None:
    async def run() -> None:
        with waiting(Api(database, lambda request: None), looks.route(), study) as waits:
            await ask(waits)

    asyncio.run(asyncio.wait_for(run(), 60))


async def told(waits: Waiting, *question_: Any, **more: Any) -> tuple[list[int], int]:
    """The indexes of what came, and the cursor."""
    value = (await waits.answer(question(*question_, **more))).value
    return [decode(body, Result).index for body in value["results"]], value["cursor"]


async def turns() -> None:
    """What other threads have called into this loop is done."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_who_is_abreast_is_told_without_a_look(database: Database) -> None:
    looks = Looks()

    async def ask(waits: Waiting) -> None:
        later = asyncio.create_task(told(waits, 0))
        await turns()
        database.apply([result(0)])
        assert await later == ([0], 1)
        before = looks.count
        for index in range(1, 6):
            later = asyncio.create_task(told(waits, index))
            await turns()
            database.apply([result(index)])
            assert await later == ([index], index + 1)
        # also what came before it was asked for
        database.apply([result(6)])
        database.apply([result(7), result(8)])
        assert await told(waits, 6) == ([6], 7)
        assert await told(waits, 7) == ([7, 8], 9)
        assert looks.count == before

    asking(database, looks, ask)


def test_what_is_told_late_is_still_all_of_it(database: Database) -> None:
    """More news than are kept."""

    async def ask(waits: Waiting) -> None:
        assert await told(waits, 0, wait="0") == ([], 0)
        for index in range(50):
            database.apply([result(index)])
        await turns()
        came, cursor = list[int](), 0
        while len(came) < 50:
            some, cursor = await told(waits, cursor)
            came += some
        assert came == list(range(50))

    asking(database, Looks(), ask)


def test_a_page_of_the_database_is_followed_by_the_next(database: Database) -> None:
    async def ask(waits: Waiting) -> None:
        database.apply([result(index) for index in range(10)])
        assert await told(waits, 0, limit=4) == ([0, 1, 2, 3], 4)
        # news of what has been told already
        assert await told(waits, 4, limit=4) == ([4, 5, 6, 7], 8)
        assert await told(waits, 8, limit=4) == ([8, 9], 10)

    asking(database, Looks(), ask)


def test_what_another_collector_took_in_is_found(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_S", 0.05)

    async def ask(waits: Waiting) -> None:
        later = asyncio.create_task(told(waits, 0))
        await turns()
        database.apply([result(0)])
        assert await later == ([0], 1)
        with closing(Database(f"sqlite:///{tmp_path}/c.sqlite")) as other:
            other.apply([result(1)])
            assert await told(waits, 1) == ([1], 2)
            # and where the next one is ours, nothing is left out
            other.apply([result(2)])
        database.apply([result(3)])
        assert await told(waits, 2) == ([2, 3], 4)

    asking(database, Looks(), ask)


def test_a_study_that_comes_late(database: Database) -> None:
    other = "t-0123456789"

    async def ask(waits: Waiting) -> None:
        later = asyncio.create_task(waits.answer(replace(question(0), path={"study": other})))
        await turns()
        assert not later.done()
        database.apply([StudyRecord(other, "t", "command", 0, (), {}, None, "q", 1.0)])
        assert (await later).value == {"results": [], "cursor": 0, "done": True}

    asking(database, Looks(), ask, other)


def test_one_that_never_comes(database: Database) -> None:
    async def ask(waits: Waiting) -> None:
        with pytest.raises(NotFound):
            await waits.answer(replace(question(0, wait="0.05"), path={"study": "nosuch"}))

    asking(database, Looks(), ask, "nosuch")


def test_nothing_within_the_time(database: Database) -> None:
    async def ask(waits: Waiting) -> None:
        assert await told(waits, 0, wait="0.05") == ([], 0)

    asking(database, Looks(), ask)
