"""How often Python looks for cycles in programs through whose hands messages pass by the thousand."""

from __future__ import annotations

import gc

#: Objects that are made before the youngest are looked through; then how many such looks before the older
#: ones. With Python's own 700 the looks take a seventh of a worker's time for short jobs.
_THRESHOLDS = (20_000, 20, 20)


def look_seldom_for_cycles() -> None:
    """To be called when all is imported, for that stays: it is never looked at again.

    Messages have no cycles, and go as soon as nobody has them. What does have some (a trace of an error) is
    found a little later.
    """
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
