"""Broadcasts that were heard before. Queues need none of this: there, everything may come twice."""

from __future__ import annotations

from collections import OrderedDict

from queue_runner.errors import NotTrusted

#: Processes that are remembered; only who has a key can be one.
_MAX_SENDERS = 100_000


class Heard:
    """One listener's memory: of each sender, nothing twice, and nothing older than the last.

    Senders number their messages, so nobody's clock matters.
    """

    def __init__(self) -> None:
        self._last: OrderedDict[tuple[str, bytes], int] = OrderedDict()

    def note(self, purpose: str, sender: bytes, number: int) -> None:
        """Raises `NotTrusted`."""
        if number <= self._last.get((purpose, sender), -1):
            raise NotTrusted("it was broadcast before: somebody repeats it")
        self._last[purpose, sender] = number
        self._last.move_to_end((purpose, sender))
        while len(self._last) > _MAX_SENDERS:
            self._last.popitem(last=False)
