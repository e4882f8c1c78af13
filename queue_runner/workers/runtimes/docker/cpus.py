"""Which CPUs are whose, for jobs that ask for some of their own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path


class Cpus:
    """Gives each job as many CPUs as it has cores, for all workers that share `folder`.

    Each CPU is a file there, locked by the worker whose job has it; the locks of a worker go with it,
    however it ends. Where too few are free, a job gets none of its own and shares all.
    """

    def __init__(self, numbers: Sequence[int], folder: Path) -> None:
        self._numbers = sorted(numbers)
        self._folder = folder

    @contextmanager
    def taken(self, count: int) -> Iterator[tuple[int, ...] | None]:
        with ExitStack() as locks:
            self._folder.mkdir(parents=True, exist_ok=True)
            mine: list[int] = []
            for number in self._numbers:
                if len(mine) < count and self._locked(number, locks):
                    mine.append(number)
            if len(mine) < count:
                locks.close()
                mine = []
            yield tuple(mine) or None

    @contextmanager
    def retaken(self, numbers: Sequence[int]) -> Iterator[None]:
        """For a job that has these already: others do not get them, unless they have by now."""
        with ExitStack() as locks:
            self._folder.mkdir(parents=True, exist_ok=True)
            for number in numbers:
                self._locked(number, locks)
            yield

    def _locked(self, number: int, locks: ExitStack) -> bool:
        # opened anew each time: threads of one worker keep each other out, too
        file = os.open(self._folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        locks.callback(os.close, file)
        return True
