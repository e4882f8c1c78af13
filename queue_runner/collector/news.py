"""Waking those who wait for results of a study, when some have been committed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

#: Called with the ids of the studies that changed; None when nothing will come any more.
Wake = Callable[[frozenset[str] | None], None]


class News:
    """Of this process only: what another collector commits to the same database is not told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listening: set[Wake] = set()
        self.closed = False

    @contextmanager
    def listening(self, wake: Wake) -> Iterator[None]:
        """`wake` is called from other threads; it must return at once."""
        with self._lock:
            self._listening.add(wake)
        try:
            yield
        finally:
            with self._lock:
                self._listening.discard(wake)

    def tell(self, studies: Iterable[str]) -> None:
        self._tell(frozenset(studies))

    def close(self) -> None:
        """Wake everybody, for the last time."""
        self.closed = True
        self._tell(None)

    def _tell(self, studies: frozenset[str] | None) -> None:
        with self._lock:
            listening = tuple(self._listening)
        for wake in listening:
            wake(studies)
