"""Waking those who wait for results of a study, when some have been committed, and what these are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Added:
    """Results of one study that were committed together: all that came after the arrival number `after`.

    bodies: as they are stored; done: whether every job has its result now.
    """

    after: int
    bodies: Sequence[bytes]
    done: bool


#: By the ids of the studies that changed; None for one where only the database tells what there is now.
Told = Mapping[str, Added | None]
#: Called with what is told; None when nothing will come any more.
Wake = Callable[[Told | None], None]


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

    def tell(self, told: Told) -> None:
        self._tell(told)

    def close(self) -> None:
        """Wake everybody, for the last time."""
        self.closed = True
        self._tell(None)

    def _tell(self, told: Told | None) -> None:
        with self._lock:
            listening = tuple(self._listening)
        for wake in listening:
            wake(told)
