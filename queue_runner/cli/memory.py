"""What Python and the C library do with the memory of programs through whose hands messages pass by the
thousand, some of them large."""

from __future__ import annotations

import ctypes
import gc

#: Objects that are made before the youngest are looked through; then how many such looks before the older
#: ones. With Python's own 700 the looks take a seventh of a worker's time for short jobs.
_THRESHOLDS = (20_000, 20, 20)

#: Bytes from which a block of memory is mapped by itself, and given back when it is freed. More than what is
#: read or sent at a time in ordinary business, for which a mapping would be slow; less than large messages.
_LARGE_BYTES = 4 * 1024 * 1024
#: malloc.h
_M_MMAP_THRESHOLD = -3


def look_seldom_for_cycles() -> None:
    """To be called when all is imported, for that stays: it is never looked at again.

    Messages have no cycles, and go as soon as nobody has them. What does have some (a trace of an error) is
    found a little later.
    """
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


def give_large_blocks_back() -> None:
    """Have what a large message took be the system's again when it is gone, for daemons live long.

    glibc takes the first large block that is freed for a sign that more will come (mallopt(3), "dynamic mmap
    threshold"), and cuts such from its heaps from then on, of which there is one for each thread, and which
    shrink from their ends only. Does nothing where the C library has no such way.
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
