"""Whether anybody has written to a folder: asked of the kernel (inotify(7)), which tells of every change.

Comparing times and sizes would be slower, and misses what is written twice within one tick of the clock.
"""

from __future__ import annotations

import ctypes
import os
import select
from collections.abc import Iterator
from pathlib import Path

# linux/inotify.h
_IN_MODIFY, _IN_ATTRIB, _IN_CLOSE_WRITE, _IN_MOVED_FROM, _IN_MOVED_TO = 0x2, 0x4, 0x8, 0x40, 0x80
_IN_CREATE, _IN_DELETE, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_CHANGES = (
    _IN_MODIFY | _IN_ATTRIB | _IN_CLOSE_WRITE | _IN_MOVED_FROM | _IN_MOVED_TO
    | _IN_CREATE | _IN_DELETE | _IN_DELETE_SELF | _IN_MOVE_SELF
)  # fmt: skip
_IN_DONT_FOLLOW = 0x02000000
#: A template with more files and folders is copied for every call: watches are few for each user.
_MAX_WATCHED = 256

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """On a folder and all below it, from now on. `touched` is true for good once anything was written."""

    def __init__(self, folder: Path) -> None:
        self.touched = False
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            self.touched = True
            return
        self._poller = select.poll()
        self._poller.register(self._fd, select.POLLIN)
        for number, path in enumerate(_all(folder)):
            mask = _CHANGES | _IN_DONT_FOLLOW
            added = _libc.inotify_add_watch(self._fd, os.fsencode(path), mask)
            if added < 0 or number >= _MAX_WATCHED:
                # what cannot be watched counts as written to
                self.touched = True
                return

    def look(self) -> bool:
        # asked after every call of a function: reading what is not there costs an exception
        if not self.touched and self._poller.poll(0):
            self.touched = True
        return self.touched

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _all(folder: Path) -> Iterator[str]:
    """Files too, and not only their folders: they may be written to by another name, or without one."""
    for directory, _, files in os.walk(folder):
        yield directory
        yield from (os.path.join(directory, name) for name in files)
