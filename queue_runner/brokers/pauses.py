"""What a daemon does while its broker says no: it stays, says so, and asks again, ever more seldom.

Whether it is let in at all a daemon asks when it starts, and ends if not. What is refused later is one
request, for a reason that somebody can mend: a right that was taken away, a key of another type.
"""

from __future__ import annotations

_FIRST_S, _MOST_S = 1.0, 30.0


class Pauses:
    """One for each request that is made again and again."""

    def __init__(self) -> None:
        self._next_s = _FIRST_S

    def longer_s(self) -> float:
        """Seconds to wait after another refusal."""
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, _MOST_S)
        return pause_s

    def over(self) -> None:
        """The request was granted."""
        self._next_s = _FIRST_S
