"""A store in a folder, on a disk of this machine or a shared one.

ROOT/ab/abcdef...   an object by its SHA-256, moved here when it is complete
ROOT/uploads/       what is being written
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from queue_runner.errors import NotFound, StoreFull, StoreRefused, StoreUnavailable
from queue_runner.store.base import Entry, Store
from queue_runner.store.content import CHUNK_BYTES, checked, checked_mark, is_name, measure

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR)


@contextmanager
def speaking_to(name: str) -> Iterator[None]:
    """Errors of the operating system in our words."""
    try:
        yield
    except OSError as error:
        text = f"store {name}: {error}"
        if error.errno in _FULL:
            raise StoreFull(f"{text}; make room there, or name another store") from error
        if error.errno in _REFUSED:
            raise StoreRefused(f"{text}; check its path and rights") from error
        raise StoreUnavailable(text) from error


class FolderStore(Store):
    """Atomic by renaming; a kill -9 leaves at most a file in `uploads`, which `sweep` removes."""

    def __init__(self, root: Path) -> None:
        self.root, self.name = root, str(root)
        self.uploads = root / "uploads"

    def put(self, source: IO[bytes]) -> tuple[str, int]:
        # a name of its own for each writer: two workers may keep the same content at once
        partial = self.uploads / f"{uuid.uuid4().hex}.put"
        with speaking_to(self.name):
            self.uploads.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("xb") as out:
                    sha256, size_bytes = measure(source, out)
                self.adopt(partial, sha256)
            finally:
                partial.unlink(missing_ok=True)
        return sha256, size_bytes

    def adopt(self, partial: Path, sha256: str) -> None:
        """Move a complete file of this file system to its place, or note that it was wanted again."""
        with speaking_to(self.name):
            path = self._path(sha256)
            if self.size_bytes(sha256) == partial.stat().st_size and _touch(path):
                partial.unlink()
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(partial, path)

    def size_bytes(self, sha256: str) -> int | None:
        with speaking_to(self.name):
            found = _stat(self._path(sha256))
        return None if found is None else found.st_size

    def renewed(self, sha256: str, size_bytes: int) -> bool:
        return self.size_bytes(sha256) == size_bytes and self.touch(sha256)

    def touch(self, sha256: str) -> bool:
        """Note that an object is wanted again; False where there is none."""
        with speaking_to(self.name):
            return _touch(self._path(sha256))

    def read(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
        with speaking_to(self.name):
            try:
                source = self._path(sha256).open("rb")
            except FileNotFoundError as error:
                raise NotFound(f"no object {sha256} in the store {self.name}") from error
            with source:
                source.seek(offset)
                while chunk := source.read(CHUNK_BYTES):
                    yield chunk

    def entries(self) -> Iterator[Entry]:
        with speaking_to(self.name):
            for path in self.root.glob("??/*"):
                if is_name(path.name) and (found := _stat(path)):
                    yield Entry(path.name, found.st_size, found.st_mtime)

    def delete(self, sha256: str, older_than_s: float) -> bool:
        path = self._path(sha256)
        aside = self.uploads / f"{uuid.uuid4().hex}.delete"
        with speaking_to(self.name):
            found = _stat(path)
            if found is None or time.time() - found.st_mtime < older_than_s:
                return False
            self.uploads.mkdir(parents=True, exist_ok=True)
            try:
                os.rename(path, aside)
            except FileNotFoundError:
                return False
            if time.time() - aside.stat().st_mtime < older_than_s:
                # touched between the look and the move: whoever did that counts on it
                os.replace(aside, path)
                return False
            aside.unlink()
        return True

    def sweep(self, older_than_s: float, *, dry_run: bool = False) -> int:
        with speaking_to(self.name):
            return sweep_folder(self.uploads, older_than_s, dry_run=dry_run)

    def mark(self, name: str, sha256: str) -> None:
        path, partial = self._mark(name), self.uploads / f"{uuid.uuid4().hex}.mark"
        with speaking_to(self.name):
            self.uploads.mkdir(parents=True, exist_ok=True)
            path.parent.mkdir(exist_ok=True)
            partial.write_text(checked(sha256))
            os.replace(partial, path)

    def marked(self, name: str) -> str | None:
        path = self._mark(name)
        with speaking_to(self.name):
            try:
                sha256 = path.read_text(errors="replace")
            except FileNotFoundError:
                return None
        return sha256 if is_name(sha256) else None

    def unmark(self, name: str) -> None:
        with speaking_to(self.name):
            self._mark(name).unlink(missing_ok=True)

    def marks(self) -> Iterator[tuple[str, str]]:
        with speaking_to(self.name):
            for path in (self.root / "marks").glob("*"):
                if sha256 := self.marked(path.name):
                    yield path.name, sha256

    def _mark(self, name: str) -> Path:
        return self.root / "marks" / checked_mark(name)

    def _path(self, sha256: str) -> Path:
        return self.root / checked(sha256)[:2] / sha256


def sweep_folder(folder: Path, older_than_s: float, *, dry_run: bool) -> int:
    """Remove the files in a folder that nobody has written to for so long; returns their bytes."""
    total = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        found = _stat(path)
        if found is not None and time.time() - found.st_mtime >= older_than_s:
            total += found.st_size
            if not dry_run:
                path.unlink(missing_ok=True)
    return total


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _touch(path: Path) -> bool:
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    # one that is being deleted may have been found before it was moved aside, and looked at there before
    # it was touched; what is still in its place now will be seen as touched
    return path.exists()
