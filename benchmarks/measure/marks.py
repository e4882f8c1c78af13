"""When a process comes past named points: its functions are wrapped from outside, and know nothing of it.

All processes write to one file, by CLOCK_MONOTONIC, which is the same for all of a machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

#: A point's name, and when it was passed, in seconds.
Mark = tuple[str, float]


class Marks:
    """Safe to use from several threads: a line is written at once."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def add(self, name: str, at: float | None = None) -> None:
        os.write(self._file, f"{name}\t{time.monotonic() if at is None else at!r}\n".encode())

    def before(
        self, owner: Any, function: str, name: str, when: Callable[..., bool] = lambda *_: True
    ) -> None:
        """Mark each call of `owner.function`, where `when` of its arguments holds."""
        wrapped = getattr(owner, function)

        @wraps(wrapped)
        def marking(*args: Any, **kwargs: Any) -> Any:
            if when(*args):
                self.add(name)
            return wrapped(*args, **kwargs)

        setattr(owner, function, marking)

    def after(
        self, owner: Any, function: str, name: str, when: Callable[..., bool] = lambda *_: True
    ) -> None:
        """Mark each end of a call of `owner.function` that returned."""
        wrapped = getattr(owner, function)

        @wraps(wrapped)
        def marking(*args: Any, **kwargs: Any) -> Any:
            returned = wrapped(*args, **kwargs)
            if when(*args):
                self.add(name)
            return returned

        setattr(owner, function, marking)


def read(path: Path) -> Iterator[Mark]:
    for line in path.read_text().splitlines():
        name, _, at = line.partition("\t")
        yield name, float(at)
