"""Unpacked bundles, kept as long as the worker lives: fetched once, copied for every job."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from queue_runner.errors import JobError, NotFound, StoreDamaged
from queue_runner.model import Reason
from queue_runner.store import Store

_MAX_BUNDLES = 32


class Bundles:
    """Safe to use from several threads."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._lock = threading.Lock()
        self._ready: dict[str, Path] = {}
        self._users: Counter[str] = Counter()

    def copy(self, sha256: str, into: Path) -> None:
        """Copy the bundle's files into a folder.

        Raises `JobError(Reason.STORE, ...)`, `StoreUnavailable`, `StoreRefused`.
        """
        with self.borrowed(sha256) as source:
            shutil.copytree(source, into, symlinks=True, dirs_exist_ok=True)

    @contextmanager
    def borrowed(self, sha256: str) -> Iterator[Path]:
        """The bundle's files themselves, to be read only. Raises as `copy` does."""
        source = self._borrow(sha256)
        try:
            yield source
        finally:
            with self._lock:
                self._users[sha256] -= 1

    def _borrow(self, sha256: str) -> Path:
        # one fetch at a time: jobs of one study want the same bundle at the same moment
        with self._lock:
            if sha256 not in self._ready:
                self._make_room()
                self._ready[sha256] = self._fetch(sha256)
            self._users[sha256] += 1
            return self._ready[sha256]

    def _fetch(self, sha256: str) -> Path:
        path = self._folder / sha256
        shutil.rmtree(path, ignore_errors=True)
        try:
            self._store.get_folder(sha256, path)
        except NotFound as error:
            raise JobError(
                Reason.STORE,
                f"the study's files are not in this worker's store: {error}."
                " Do client and worker use the same --store?",
            ) from error
        except StoreDamaged as error:
            raise JobError(Reason.STORE, str(error)) from error
        return path

    def _make_room(self) -> None:
        idle = [sha256 for sha256 in self._ready if not self._users[sha256]]
        for sha256 in idle[: max(0, len(self._ready) + 1 - _MAX_BUNDLES)]:
            shutil.rmtree(self._ready.pop(sha256), ignore_errors=True)
