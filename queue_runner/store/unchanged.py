"""Folders that were packed before, and whose files the system says have not changed since.

Who tries one point after another submits a study for each, with the same template. Packing and hashing it is
felt where a job is short, and where a mesh is in it.

A file is as it was when its inode, size and mode are, and both its times to the nanosecond. The time of the
last change of an inode (`ctime`) is the kernel's: no program can set it. Files are opened to be asked, for
over NFS only that brings what the server knows of them now (close-to-open consistency, nfs(5)). What another
program writes to a file that it has mapped into its memory may show late in these times (mmap(2)).
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from queue_runner.store.bundle import is_litter

#: Files and folders of one that is remembered, and how many of those are.
_MOST_ENTRIES = 1000
_MOST_FOLDERS = 16
#: What changed a moment ago may change again within the same tick of the clock: of 10 ms (the kernel),
#: or of two seconds, where a file system notes whole ones only (vfat).
_YOUNG_NS = 10**8
_YOUNG_IN_SECONDS_NS = 2 * 10**9
_SECOND_NS = 10**9

#: What a folder's files are, as far as the system tells.
Look = tuple[tuple[object, ...], ...]


@dataclass(frozen=True, slots=True)
class Packed:
    sha256: str
    size_bytes: int


class Unchanged:
    """What the bundles of some folders are. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[Path, tuple[str, ...]], tuple[Look, Packed]] = OrderedDict()

    def packed(self, folder: Path, exclude: Sequence[str], look: Look | None) -> Packed | None:
        """The bundle of a folder that looks like this, if it is known."""
        with self._lock:
            known = self._known.get((folder.absolute(), tuple(exclude)))
        return known[1] if known is not None and known[0] == look else None

    def note(self, folder: Path, exclude: Sequence[str], look: Look | None, packed: Packed) -> None:
        """look: from before it was packed."""
        if look is None:
            return
        with self._lock:
            self._known[folder.absolute(), tuple(exclude)] = (look, packed)
            if len(self._known) > _MOST_FOLDERS:
                self._known.popitem(last=False)


def look(folder: Path) -> Look | None:
    """None where that does not tell whether it changes: links, files that have just changed, too many."""
    found: list[tuple[object, ...]] = []
    settled_ns = 0
    try:
        for name, status in _statuses(str(folder)):
            settled_ns = max(settled_ns, _settled_ns(status.st_ctime_ns))
            found.append(
                (
                    name,
                    status.st_dev,
                    status.st_ino,
                    status.st_mode,
                    status.st_uid,
                    status.st_gid,
                    status.st_size,
                    status.st_mtime_ns,
                    status.st_ctime_ns,
                )
            )
            if len(found) > _MOST_ENTRIES:
                return None
    except (OSError, _NotPlain):  # packing it says what is wrong
        return None
    return tuple(sorted(found)) if settled_ns < time.time_ns() else None


def _settled_ns(changed_ns: int) -> int:
    """When a further change has another time for certain."""
    return changed_ns + (_YOUNG_NS if changed_ns % _SECOND_NS else _YOUNG_IN_SECONDS_NS)


class _NotPlain(Exception):
    """There is something that is neither a file nor a folder."""


def _statuses(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Of a folder and all that is below it but litter. Raises `OSError`, `_NotPlain`."""
    with ExitStack() as opened:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, descriptor)
        yield folder, os.fstat(descriptor)
        with os.scandir(descriptor) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False), entry) for entry in entries]
        for name, is_folder, entry in found:
            if is_litter(name):
                continue
            path = f"{folder}/{name}"
            if is_folder:
                yield from _statuses(path)
            elif entry.is_file(follow_symlinks=False):
                yield path, _file_status(name, descriptor)
            else:
                raise _NotPlain


def _file_status(name: str, folder: int) -> os.stat_result:
    # should it have become a pipe or a link just now, it is neither waited for nor followed
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)
