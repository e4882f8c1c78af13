"""Which CPUs are whose, for jobs that ask for some of their own."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Cpus:
    """Gives each job as many CPUs as it has cores. A worker that runs more cores' worth of jobs than it
    has CPUs gets none for what is over: those jobs share all.
    """

    def __init__(self) -> None:
        self._free = sorted(os.sched_getaffinity(0))
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, count: int) -> Iterator[tuple[int, ...] | None]:
        with self._lock:
            enough = len(self._free) >= count
            mine = tuple(self._free[:count]) if enough else ()
            self._free = self._free[len(mine) :]
        try:
            yield mine or None
        finally:
            with self._lock:
                self._free = sorted([*self._free, *mine])
