"""Where the work folders of jobs are: in memory where there is room, for all alike.

What a file system does with files that come and go is no queue's doing, and can be more than all that a
queue does: before ext4 without a journal makes a file, it looks one by one at those that were removed within
the last minute (`recently_deleted` in fs/ext4/ialloc.c). GNU parallel leaves its folders behind; a worker
removes them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 1024**3


def in_memory() -> bool:
    try:
        found = os.statvfs(_MEMORY)
    except OSError:
        return False
    # programs are started in work folders
    runs = not found.f_flag & os.ST_NOEXEC
    return runs and found.f_bavail * found.f_frsize >= _ROOM_BYTES


@contextmanager
def throwaway() -> Iterator[Path]:
    """A contender's own folder, on a disk; it and its work folder are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="queue-runner-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(_MEMORY / folder.name, ignore_errors=True)


def work_folder(folder: Path) -> Path:
    """For the folders that jobs work in, of the contender whose own folder this is."""
    work = _MEMORY / folder.name if in_memory() else folder / "work"
    work.mkdir(exist_ok=True)
    return work
