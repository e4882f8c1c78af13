"""What has been committed goes onto the disk and is acknowledged, while the next messages are taken in.

Nobody waits for that, and it takes its turns with who takes in and answers; so a few items wait a moment for
those that come next: a study for the result of its only job.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from queue_runner.brokers.base import Dead, Delivery
from queue_runner.model import Cancel

#: Items that may be on their way to the disk before the next are taken in. A few do not wait for the
#: disk; where many come, those that come meanwhile are one batch, which costs less for each.
_MOST = 100
#: Seconds that they wait for others, while they are few and nobody is to be told of them.
_LINGER_S = 0.02


@dataclass(frozen=True, slots=True)
class Taken:
    """A batch that has been committed. items: how many; told: what workers hear when it is acknowledged."""

    done: Sequence[Delivery]
    dead: Sequence[Dead]
    told: Sequence[Cancel]
    items: int


class Acknowledger:
    """`run` in a thread of its own, until `finish`. One other thread calls the rest.

    flush: see `Database.flush`; acknowledge: called for batches that are on the disk.
    """

    def __init__(
        self,
        flush: Callable[[], None],
        acknowledge: Callable[[Sequence[Taken]], None],
        linger_s: float = _LINGER_S,
    ) -> None:
        self._flush, self._acknowledge, self._linger_s = flush, acknowledge, linger_s
        self._changed = threading.Condition()
        self._waiting: list[Taken] = []
        self._items = 0
        self._ending = False

    def add(self, taken: Taken) -> None:
        """Returns at once while few are on their way; where `run` has failed, in any case."""
        with self._changed:
            self._waiting.append(taken)
            self._items += taken.items
            if len(self._waiting) == 1 or self._hurries():
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._items <= _MOST or self._ending)

    def finish(self) -> None:
        """Let `run` end when all is acknowledged."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def run(self) -> None:
        """Raises `FlushFailed`: what waits then is never acknowledged, and comes again."""
        try:
            while batches := self._next():
                self._flush()
                self._acknowledge(batches)
                with self._changed:
                    self._items -= sum(taken.items for taken in batches)
                    self._changed.notify_all()
        finally:
            self.finish()

    def _next(self) -> list[Taken]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ending)
            self._changed.wait_for(self._hurries, self._linger_s)
            batches, self._waiting = self._waiting, []
            return batches

    def _hurries(self) -> bool:
        concerns = any(taken.told or taken.dead for taken in self._waiting)
        return concerns or self._ending or self._items > _MOST
