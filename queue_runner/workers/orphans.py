"""Reaping for a worker that orphans are given to: process 1 of its container, and one that asked for them.

What a job's process leaves behind becomes its child, and stays a zombie until it waits for it
(pid_namespaces(7); PR_SET_CHILD_SUBREAPER in prctl(2)).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress


class Orphans:
    """`reap` is to be called now and then, in a process whose children are all started by us.

    The worker waits for its own children as soon as they end; a zombie that is there at two calls in a row
    is nobody's.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def reap(self) -> int:
        """Wait for the orphans that have ended; returns how many."""
        zombies = set(_zombies())
        for pid in zombies & self._seen:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        reaped = len(zombies & self._seen)
        self._seen = zombies - self._seen
        return reaped


def _zombies() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        with suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
            state, parent = stat.read().rpartition(b")")[2].split()[:2]
            if state == b"Z" and int(parent) == os.getpid():
                yield int(name)
