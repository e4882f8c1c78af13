"""Waking coroutines from callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Bell:
    """Wakes everybody who waits; a ring while nobody does is forgotten. For one event loop."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, set()
        for sleeper in waiting:
            if not sleeper.done():
                sleeper.set_result(None)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Returns once `condition` holds; it is looked at now and at every ring."""
        while not condition():
            sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(sleeper)
            try:
                await sleeper
            finally:
                self._waiting.discard(sleeper)
