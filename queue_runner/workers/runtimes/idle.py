"""What is warm and waits for more of the same: taken out by a key, and ended when nobody wants it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Idle(Generic[T]):
    """end: called for each that has waited for `idle_s` seconds, for the oldest where there are more than
    `most`, and for all of them at `close`; never under a lock. Safe to use from several threads.
    """

    def __init__(self, name: str, most: int, idle_s: float, end: Callable[[T], None]) -> None:
        self._most, self._idle_s, self._end = most, idle_s, end
        #: Longest idle first, with the time since when.
        self._waiting: list[tuple[float, Hashable, T]] = []
        self._changed = threading.Condition()
        self._closed = False
        #: Whether it waits until there is something: all others that come need not wake it.
        self._asleep = False
        self._ender = threading.Thread(target=self._end_old, name=name, daemon=True)
        self._ender.start()

    def take(self, key: Hashable) -> T | None:
        """The one of that key that was used last: what the system has of it in its caches is fresh."""
        with self._changed:
            for place in range(len(self._waiting) - 1, -1, -1):
                if self._waiting[place][1] == key:
                    return self._waiting.pop(place)[2]
        return None

    def put(self, key: Hashable, value: T) -> None:
        surplus: list[T] = []
        with self._changed:
            if self._closed:
                surplus.append(value)
            else:
                self._waiting.append((time.monotonic(), key, value))
                if len(self._waiting) > self._most:
                    surplus.append(self._waiting.pop(0)[2])
                if self._asleep:
                    self._changed.notify()
        for each in surplus:
            self._end(each)

    def _end_old(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                if not self._waiting:
                    self._asleep = True
                    self._changed.wait()
                    self._asleep = False
                    continue
                left_s = self._waiting[0][0] + self._idle_s - time.monotonic()
                if left_s > 0:
                    self._changed.wait(left_s)
                    continue
                _, _, old = self._waiting.pop(0)
            self._end(old)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            waiting, self._waiting = self._waiting, []
            self._changed.notify()
        self._ender.join()
        for _, _, each in waiting:
            self._end(each)
