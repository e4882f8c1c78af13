"""A folder for sockets that only this process's user may enter, at a short path: theirs end at 107 bytes.

A process that is killed leaves its folder behind; the next one removes it, by the lock that nobody holds.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from queue_runner.workers.leavings import remove

_PREFIX = "queue-runner-run-"


@contextmanager
def private_folder() -> Iterator[Path]:
    """One that is removed at the end, and with it those of processes that were killed."""
    _remove_left()
    folder, lock = _made()
    try:
        yield folder
    finally:
        remove(folder)
        os.close(lock)


def _made() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with suppress(FileNotFoundError):
            lock = _opened(folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            # somebody who starts at the same time has taken it for one that was left
            os.close(lock)


def _remove_left() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # gone meanwhile, or somebody else's
        with suppress(FileNotFoundError, PermissionError, NotADirectoryError):
            lock = _opened(folder)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(folder)
            except BlockingIOError:
                continue
            finally:
                os.close(lock)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
