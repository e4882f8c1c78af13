"""How much of a disk a job's folders take, looked at while it runs.

A quota of the file system would be exact, and needs one that has them, and rights to set them. This sees what
has a name in the job's folders, every few seconds, and once more at the end.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

#: Seconds between looks; more where a look takes long, so that looking takes a twentieth of one core.
_EVERY_S = 1.0
_SHARE = 20
#: What a file or folder takes at least: empty ones fill a disk, too.
_LEAST_BYTES = 4096
_BLOCK = 512


class DiskWatch:
    """`wait_s` until the next look at what the folders hold; `over` looks when it is time."""

    def __init__(self, most_bytes: int | None, folders: Sequence[Path]) -> None:
        self._most, self._folders = most_bytes, folders
        self._next = math.inf if most_bytes is None else time.monotonic() + _EVERY_S

    def wait_s(self) -> float:
        return self._next - time.monotonic()

    def over(self) -> bool:
        if self._most is None or self.wait_s() > 0:
            return False
        started = time.monotonic()
        over = any_more(self._folders, self._most)
        now = time.monotonic()
        self._next = now + max(_EVERY_S, _SHARE * (now - started))
        return over


def any_more(folders: Sequence[Path], most_bytes: int) -> bool:
    """Whether the folders hold more; what cannot be looked into holds nothing."""
    left = most_bytes
    waiting = [str(folder) for folder in folders]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    left -= max(found.st_blocks * _BLOCK, _LEAST_BYTES)
                    if left < 0:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            # it has gone meanwhile, or is closed to us; at the job's end it can be looked into
            continue
    return False
