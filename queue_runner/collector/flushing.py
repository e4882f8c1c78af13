"""Bringing onto the disk what SQLite has committed; docs/decisions/told-before-flushed.md says why apart.

SQLite takes no lock on its log (https://www.sqlite.org/wal.html): closing a descriptor of it loses none.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from queue_runner.errors import FlushFailed


class WriteAheadLog:
    """SQLite's `-wal` file. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._failed: OSError | None = None

    def flush(self) -> None:
        """All that has been committed, by whomever, is on the disk when it returns.

        Raises `FlushFailed`, and from then on always: the kernel tells of a page that it could not write
        only once, and takes it for written afterwards.
        """
        with self._lock:
            if self._failed is None:
                try:
                    os.fdatasync(self._opened())
                except OSError as error:
                    self._failed = error
            if self._failed is not None:
                raise FlushFailed(f"{self._path}: {self._failed.strerror}") from self._failed

    def _opened(self) -> int:
        """A descriptor that was there before what is flushed was written hears of every failure since."""
        found = os.stat(self._path)
        if self._descriptor is not None and not os.path.samestat(found, os.fstat(self._descriptor)):
            self._close()
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        return self._descriptor

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
