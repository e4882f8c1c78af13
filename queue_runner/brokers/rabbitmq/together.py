"""Several awaitables at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def together(work: Iterable[Awaitable[T]]) -> list[T]:
    """All results, or the first error, but not before all have ended."""
    awaited = list(work)
    if len(awaited) == 1:  # needs no task of its own, and no turns of the loop to begin and end it
        return [await awaited[0]]
    results = await asyncio.gather(*awaited, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
