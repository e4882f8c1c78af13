"""The receiving end of resumable uploads: what a collector does for those that have no shared disk.

An upload is a file named after the hash it will have, so that whoever has that content may add to it:
a client that was killed and its successor, or two workers that keep the same content at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queue_runner.errors import StoreDamaged, StoreFull, TooBig
from queue_runner.store.base import Store
from queue_runner.store.content import CHUNK_BYTES, checked
from queue_runner.store.folder import FolderStore, speaking_to, sweep_folder

#: Largest piece that is taken in one call.
PIECE_BYTES = 4 * 1024 * 1024
#: Unfinished uploads whose hash so far is remembered; that of others is taken from their file again.
_MAX_OPEN = 256
#: Seconds after which the size of the store is counted anew before something is refused.
_RECOUNT_S = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """quota_bytes: of all objects and uploads together; object_bytes: of one. None: no limit."""

    quota_bytes: int | None = None
    object_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How far an upload is."""

    received_bytes: int
    complete: bool


class Uploads:
    """Safe to use from several threads, and processes that share the folder."""

    def __init__(self, store: Store, folder: Path, limits: Limits) -> None:
        self._store, self._folder, self.limits = store, folder, limits
        self._hashes: OrderedDict[str, tuple[int, Any]] = OrderedDict()
        self._used_bytes, self._counted_at = 0, float("-inf")

    def standing(self, sha256: str) -> Standing:
        """What is there of an object; asking renews it, as putting it would."""
        checked(sha256)
        size_bytes = self._renewed_size(sha256)
        if size_bytes is not None:
            return Standing(size_bytes, True)
        return self._partial_standing(sha256)

    def _partial_standing(self, sha256: str) -> Standing:
        with self._speaking():
            return Standing(_size(self._partial(sha256)), False)

    def append(
        self, sha256: str, offset: int, size_bytes: int, piece: bytes | bytearray
    ) -> Standing:
        """Add a piece to an upload of `size_bytes` in all; says where to go on.

        A piece that does not begin where the upload stands changes nothing.
        Raises `TooBig`, `StoreFull`, `StoreDamaged` (complete, and not what its name says; the upload
        begins anew).
        """
        checked(sha256)
        self._refuse_too_big(size_bytes)
        with self._speaking(), self._locked(sha256):
            standing = self.standing(sha256)
            if standing.complete and standing.received_bytes == size_bytes:
                return standing
            if standing.complete:
                standing = self._partial_standing(sha256)  # the object has lost a part
            if offset != standing.received_bytes:
                return standing
            if offset + len(piece) > size_bytes:
                # what was received before cannot be the beginning of it, or the sender miscounts
                self._partial(sha256).unlink(missing_ok=True)
                raise StoreDamaged(f"{offset + len(piece)} bytes of an upload of {size_bytes}")
            return self._add(sha256, offset, size_bytes, piece)

    def _add(self, sha256: str, offset: int, size_bytes: int, piece: bytes | bytearray) -> Standing:
        partial = self._partial(sha256)
        try:
            self._refuse_over_quota(partial, size_bytes)
            digest = self._hash_so_far(sha256, offset)
            with partial.open("ab") as out:
                out.write(piece)
        except (OSError, StoreFull):
            # room for others; this one cannot be completed
            partial.unlink(missing_ok=True)
            raise
        digest.update(piece)
        received = offset + len(piece)
        if received < size_bytes:
            self._remember(sha256, received, digest)
            return Standing(received, False)
        self._complete(sha256, partial, digest.hexdigest())
        return Standing(received, True)

    def _complete(self, sha256: str, partial: Path, found: str) -> None:
        self._hashes.pop(sha256, None)
        if found != sha256:
            partial.unlink()
            raise StoreDamaged(f"the content sent as {sha256} has the hash {found}; send it again")
        size_bytes = partial.stat().st_size
        with partial.open("rb") as content:
            # the sender forgets it now, which is why it has to outlast a power cut here
            os.fsync(content.fileno())
            if not isinstance(self._store, FolderStore):
                self._store.put(content)
        if isinstance(self._store, FolderStore):
            self._store.adopt(partial, sha256)
        else:
            partial.unlink()
        self._used_bytes += size_bytes

    def _renewed_size(self, sha256: str) -> int | None:
        if isinstance(self._store, FolderStore) and not self._store.touch(sha256):
            return None
        return self._store.size_bytes(sha256)

    # -- hash so far -----------------------------------------------------------------------------

    def _hash_so_far(self, sha256: str, offset: int) -> Any:
        known = self._hashes.pop(sha256, None)
        if known is not None and known[0] == offset:
            return known[1]
        digest = hashlib.sha256()
        if offset:
            # this process was restarted, or another one received what is there
            with self._partial(sha256).open("rb") as source:
                while chunk := source.read(CHUNK_BYTES):
                    digest.update(chunk)
        return digest

    def _remember(self, sha256: str, offset: int, digest: Any) -> None:
        self._hashes[sha256] = (offset, digest)
        while len(self._hashes) > _MAX_OPEN:
            self._hashes.popitem(last=False)

    # -- limits ----------------------------------------------------------------------------------

    def _refuse_too_big(self, size_bytes: int) -> None:
        limit = self.limits.object_bytes
        if limit is not None and size_bytes > limit:
            raise TooBig(
                f"a file of {size_bytes} bytes; this store takes {limit} at most"
                " (--store-max-file of the collector). Keep less, or compress it in the job."
            )

    def _refuse_over_quota(self, partial: Path, size_bytes: int) -> None:
        quota = self.limits.quota_bytes
        if quota is None:
            return
        others = sum(_size(path) for path in self._folder.glob("*.up") if path != partial)
        if self._used(quota - others - size_bytes) + others + size_bytes > quota:
            raise StoreFull(
                f"{size_bytes} bytes more than fit into the store's quota of {quota} bytes."
                " Remove what nobody needs with `queue-runner store gc`, or raise the collector's"
                " --store-quota."
            )

    def _used(self, enough_bytes: int) -> int:
        age_s = time.monotonic() - self._counted_at
        if self._counted_at < 0 or (self._used_bytes > enough_bytes and age_s > _RECOUNT_S):
            self.recount()
        return self._used_bytes

    def recount(self) -> None:
        """Count the size of the store anew: others may have added to it, or removed from it."""
        self._used_bytes = sum(entry.size_bytes for entry in self._store.entries())
        self._counted_at = time.monotonic()

    # -- files -----------------------------------------------------------------------------------

    def sweep(self, older_than_s: float, *, dry_run: bool = False) -> int:
        """Remove uploads that nobody went on with for so long; returns their bytes."""
        with self._speaking():
            return sweep_folder(self._folder, older_than_s, dry_run=dry_run)

    @contextmanager
    def _locked(self, sha256: str) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        # one of 256 files that stay: a lock on the upload itself would be moved away with it
        locks = self._folder.parent / "locks"
        locks.mkdir(exist_ok=True)
        with (locks / sha256[:2]).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        with speaking_to(str(self._folder)):
            yield

    def _partial(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.up"


def _size(upload: Path) -> int:
    """Bytes; 0 where there is none, or where another thread has just completed it."""
    try:
        return upload.stat().st_size
    except FileNotFoundError:
        return 0
