"""Text that somebody else wrote, on its way to a terminal or a log."""

from __future__ import annotations

import time

#: Texts that are remembered as said; what somebody makes up is without end.
_MOST_SAID = 1000

#: What a line of ours may hold beside what can be printed.
_KEPT = frozenset("\n\t")


def printable(text: str, most: int | None = None) -> str:
    """Without what a terminal obeys: escapes, carriage returns, signs that turn the text around.

    Each becomes its escape in Python. What is longer than `most` is cut.
    """
    if most is not None and len(text) > most:
        text = text[: most - 3] + "..."
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() or sign in _KEPT else sign.encode("unicode_escape").decode()
        for sign in text
    )


def one_line(text: str, most: int | None = None) -> str:
    """As `printable`, and line feeds are escaped, too."""
    return printable(text, most).replace("\n", "\\n").replace("\t", "\\t")


class Seldom:
    """For what others cause as often as they like: the same text is due once a minute."""

    def __init__(self, pause_s: float = 60.0) -> None:
        self._pause_s = pause_s
        self._said: dict[str, float] = {}

    def due(self, text: str) -> bool:
        now = time.monotonic()
        if now - self._said.get(text, -self._pause_s) < self._pause_s:
            return False
        if len(self._said) >= _MOST_SAID:
            self._said.clear()
        self._said[text] = now
        return True
