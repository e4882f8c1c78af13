"""A store behind any file system that fsspec knows: S3, SFTP, Google, Azure, ..."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, Any

from queue_runner.errors import (
    NotFound,
    QueueRunnerError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    Unsupported,
)
from queue_runner.store.base import Entry, Store
from queue_runner.store.content import (
    CHUNK_BYTES,
    checked,
    checked_mark,
    is_name,
    measure,
    seekable,
)

#: What fsspec's file systems call the time of the last change.
_TIME_KEYS = ("LastModified", "mtime", "updated", "last_modified", "created")
#: An object older than this is written again when it is put again: many file systems cannot touch.
#: `delete` spares what is younger than twice that.
_FRESH_S = 3600.0


#: Protocols without folders, for which `makedirs` would make a bucket of a misspelt name.
_BUCKETS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci"}


class RemoteStore(Store):
    """Objects are written under another name and moved, so that also those who list see whole ones."""

    def __init__(self, filesystem: Any, root: str, name: str) -> None:
        self._fs, self._root, self.name = filesystem, root.rstrip("/"), name
        protocol = filesystem.protocol
        self._protocols = (protocol,) if isinstance(protocol, str) else tuple(protocol)

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except QueueRunnerError:
            raise
        except FileNotFoundError as error:
            raise StoreRefused(f"store {self.name}: {error}; does the bucket exist?") from error
        except PermissionError as error:
            raise StoreRefused(f"store {self.name}: {error}; check its credentials") from error
        except Exception as error:  # every implementation has errors of its own
            text = f"store {self.name}: {type(error).__name__}: {error}"
            if "NoCredentials" in text or "InvalidAccessKeyId" in text:
                raise StoreRefused(f"{text}; check its credentials") from error
            if getattr(error, "errno", None) == 28:
                raise StoreFull(text) from error
            raise StoreUnavailable(text) from error

    def put(self, source: IO[bytes]) -> tuple[str, int]:
        with seekable(source) as content:
            start = content.tell()
            sha256, size_bytes = measure(content)
            content.seek(start)
            path = self._path(sha256)
            with self._speaking():
                if not self._is_fresh(path, size_bytes):
                    self._write(path, content, sha256)
        return sha256, size_bytes

    def _is_fresh(self, path: str, size_bytes: int) -> bool:
        info = self._info(path)
        if info is None or info["size"] != size_bytes:
            return False
        modified_at = _modified_at(info)
        return modified_at is None or time.time() - modified_at < _FRESH_S

    def _write(self, path: str, content: IO[bytes], sha256: str) -> None:
        partial = f"{path}.{uuid.uuid4().hex}.part"
        if not _BUCKETS & set(self._protocols):
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            with self._fs.open(partial, "wb") as out:
                written = measure(content, out)[0]
            if written != sha256:
                raise StoreUnavailable(f"store {self.name}: a file changed while it was kept")
            self._fs.mv(partial, path)
        except BaseException:
            # closing a file of fsspec completes it, also when an error closes it
            if self._info(partial) is not None:
                self._fs.rm_file(partial)
            raise

    def size_bytes(self, sha256: str) -> int | None:
        path = self._path(sha256)
        with self._speaking():
            info = self._info(path)
        return None if info is None else int(info["size"])

    def _info(self, path: str) -> Any:
        # others write there, too: what was listed a moment ago is no answer
        self._fs.invalidate_cache()
        try:
            return self._fs.info(path)
        except FileNotFoundError:
            return None

    def read(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
        path = self._path(sha256)
        with self._speaking():
            try:
                with self._fs.open(path, "rb") as source:
                    source.seek(offset)
                    while chunk := source.read(CHUNK_BYTES):
                        yield chunk
            except FileNotFoundError as error:
                raise NotFound(f"no object {sha256} in the store {self.name}") from error

    def entries(self) -> Iterator[Entry]:
        for name, info in self._listed():
            if is_name(name):
                modified_at = _modified_at(info)
                if modified_at is None:
                    raise Unsupported(f"store {self.name} does not say how old its objects are")
                yield Entry(name, int(info["size"]), modified_at)

    def _listed(self) -> Iterator[tuple[str, Any]]:
        # by their first two letters, so that never all of them are in memory
        for number in range(256):
            with self._speaking():
                self._fs.invalidate_cache()
                try:
                    found = self._fs.ls(f"{self._root}/{number:02x}", detail=True)
                except FileNotFoundError:
                    continue
            for info in found:
                yield str(info["name"]).rpartition("/")[2], info

    def delete(self, sha256: str, older_than_s: float) -> bool:
        path = self._path(sha256)
        with self._speaking():
            info = self._info(path)
            if info is None or not _is_old(info, max(older_than_s, 2 * _FRESH_S)):
                return False
            self._fs.rm_file(path)
        return True

    def sweep(self, older_than_s: float, *, dry_run: bool = False) -> int:
        total = 0
        for name, info in self._listed():
            if name.endswith(".part") and _is_old(info, older_than_s):
                total += int(info["size"])
                if not dry_run:
                    with self._speaking():
                        self._fs.rm_file(info["name"])
        return total

    def mark(self, name: str, sha256: str) -> None:
        path, content = self._mark(name), checked(sha256).encode()
        with self._speaking():
            if not _BUCKETS & set(self._protocols):
                self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(path, content)

    def marked(self, name: str) -> str | None:
        path = self._mark(name)
        with self._speaking():
            self._fs.invalidate_cache()
            try:
                sha256 = self._fs.cat_file(path).decode(errors="replace")
            except FileNotFoundError:
                return None
        return sha256 if is_name(sha256) else None

    def unmark(self, name: str) -> None:
        path = self._mark(name)
        with self._speaking():
            if self._info(path) is not None:
                self._fs.rm_file(path)

    def marks(self) -> Iterator[tuple[str, str]]:
        with self._speaking():
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(f"{self._root}/marks", detail=False)
            except FileNotFoundError:
                return
        for path in found:
            name = str(path).rpartition("/")[2]
            if sha256 := self.marked(name):
                yield name, sha256

    def _mark(self, name: str) -> str:
        return f"{self._root}/marks/{checked_mark(name)}"

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{checked(sha256)[:2]}/{sha256}"


def _modified_at(info: Any) -> float | None:
    for key in _TIME_KEYS:
        value = info.get(key)
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None


def _is_old(info: Any, older_than_s: float) -> bool:
    modified_at = _modified_at(info)
    return modified_at is not None and time.time() - modified_at >= older_than_s
