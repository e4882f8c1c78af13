"""The store, on a folder or any URL that fsspec knows.

Objects live at `ROOT/ab/abcdef...` by their SHA-256; they are written under a temporary name and
moved, so that a reader never sees half of one, and checked against their name when read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import fsspec

from queue_runner.errors import NotFound, StoreUnavailable
from queue_runner.store.bundle import read_bundle, write_bundle

_CHUNK = 1024 * 1024


def open_store(url: str) -> Store:
    """`file:///folder`, a plain folder, or another URL for which fsspec finds an implementation."""
    try:
        filesystem, root = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise StoreUnavailable(f"store {url!r}: {error}") from error
    return Store(filesystem, root)


class Store:
    """Put and get by content hash. Safe to use from several threads."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")

    def put(self, source: IO[bytes]) -> tuple[str, int]:
        """Keep what `source` holds; returns (SHA-256 as hex, size in bytes)."""
        digest, size = hashlib.sha256(), 0
        with tempfile.TemporaryFile() as copy:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                copy.write(chunk)
            copy.seek(0)
            self._keep(digest.hexdigest(), copy)
        return digest.hexdigest(), size

    def put_folder(self, folder: Path, exclude: Sequence[str] = ()) -> str:
        """Keep a folder as a bundle; returns its hash, which depends on names and contents only."""
        with tempfile.TemporaryFile() as packed:
            write_bundle(folder, packed, exclude=exclude)
            packed.seek(0)
            return self.put(packed)[0]

    def get(self, sha256: str, out: IO[bytes]) -> None:
        """Copy an object to `out`. Raises `NotFound`, `StoreUnavailable` (also for altered content)."""
        digest = hashlib.sha256()
        try:
            with self._fs.open(self._path(sha256), "rb") as source:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
        except FileNotFoundError as error:
            raise NotFound(f"no object {sha256} in the store {self._root}") from error
        except OSError as error:
            raise StoreUnavailable(f"store {self._root}: {error}") from error
        if digest.hexdigest() != sha256:
            raise StoreUnavailable(
                f"store {self._root}: object {sha256} has other content than its name says;"
                " delete it and submit the study again"
            )

    def get_folder(self, sha256: str, into: Path) -> None:
        """Unpack a bundle into `into`, which is made if need be."""
        with tempfile.TemporaryFile() as packed:
            self.get(sha256, packed)
            packed.seek(0)
            try:
                read_bundle(packed, into)
            except tarfile.TarError as error:
                raise StoreUnavailable(f"bundle {sha256} cannot be unpacked: {error}") from error

    def has(self, sha256: str) -> bool:
        return bool(self._fs.exists(self._path(sha256)))

    def _keep(self, sha256: str, content: IO[bytes]) -> None:
        path = self._path(sha256)
        # a name of its own for each writer: two workers may keep the same content at once
        partial = f"{path}.{os.getpid()}-{uuid.uuid4().hex}.part"
        try:
            if self._fs.exists(path):
                return
            self._fs.makedirs(os.path.dirname(path), exist_ok=True)
            with self._fs.open(partial, "wb") as out:
                shutil.copyfileobj(content, out, _CHUNK)
            self._fs.mv(partial, path)
        except OSError as error:
            raise StoreUnavailable(f"store {self._root}: {error}") from error

    def _path(self, sha256: str) -> str:
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise NotFound(f"{sha256!r:.80} is not a SHA-256 in hex")
        return f"{self._root}/{sha256[:2]}/{sha256}"
