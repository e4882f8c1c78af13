"""The store: bundles and artifacts by their SHA-256, wherever they live."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from queue_runner.errors import StoreDamaged
from queue_runner.store.bundle import DEFAULT_LIMITS, BundleLimits, read_bundle, write_bundle
from queue_runner.store.content import CHUNK_BYTES
from queue_runner.store.unchanged import Packed, Unchanged, look

#: Is told how many bytes have just been transferred.
Progress = Callable[[int], None]


def _ignore(count_bytes: int) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Entry:
    """An object of a store. modified_at: unix seconds by the store's clock."""

    sha256: str
    size_bytes: int
    modified_at: float


class Store(ABC):
    """Put and get by content hash. Safe to use from several threads and processes at once.

    A reader never sees half of an object, however its writer ended. All methods raise
    `StoreUnavailable` when the store does not answer, `StoreRefused` when it may not be used (rights,
    token).
    """

    #: Where it is, for messages.
    name: str
    #: Of what is put and got as a folder.
    bundles: BundleLimits = DEFAULT_LIMITS

    @abstractmethod
    def put(self, source: IO[bytes]) -> tuple[str, int]:
        """Keep what `source` holds from its position on; returns (SHA-256 as hex, size in bytes).

        What is there already counts as new for `delete`. A transfer that broke goes on where it
        stopped, if the store can do that. Raises `TooBig`, `StoreFull`.
        """

    @abstractmethod
    def size_bytes(self, sha256: str) -> int | None:
        """The size of an object, None where there is none of that name."""

    @abstractmethod
    def read(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
        """The content from a byte on, unchecked. Raises `NotFound`."""

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """All objects, in no order."""

    @abstractmethod
    def delete(self, sha256: str, older_than_s: float) -> bool:
        """Remove an object that has not been put for so long, also while somebody puts it again."""

    @abstractmethod
    def sweep(self, older_than_s: float, *, dry_run: bool = False) -> int:
        """Remove what broken transfers left that long ago; returns its size in bytes."""

    # -- marks: the few names of a store whose meaning changes

    @abstractmethod
    def mark(self, name: str, sha256: str) -> None:
        """Let `name` mean an object from now on; garbage collection spares it, and the listed files of it.

        Raises `NotFound` for a name that is none.
        """

    @abstractmethod
    def marked(self, name: str) -> str | None:
        """The object that a name means, or None."""

    @abstractmethod
    def unmark(self, name: str) -> None:
        """Forget a name; it is no error where there is none."""

    @abstractmethod
    def marks(self) -> Iterator[tuple[str, str]]:
        """All names with what they mean, in no order."""

    # ----

    def close(self) -> None:
        """Let go of connections; the store is not used afterwards."""
        return None

    def check(self) -> None:
        """Raises what using the store would raise: unreachable, no rights, a wrong token."""
        self.size_bytes(hashlib.sha256().hexdigest())

    def renewed(self, sha256: str, size_bytes: int) -> bool:
        """Whether an object of this size is there, which counts as new for `delete` from now on.

        False also where only `put` can do that.
        """
        return False

    def has(self, sha256: str) -> bool:
        return self.size_bytes(sha256) is not None

    def get(
        self, sha256: str, out: IO[bytes], *, resume: bool = False, progress: Progress = _ignore
    ) -> None:
        """Copy an object to `out`. Raises `NotFound`, `StoreDamaged` (not what its name says).

        resume: `out` may hold the beginning of it already, and can be read; the rest is added.
        """
        digest = hashlib.sha256()
        start = _take_in(out, digest.update, progress) if resume else 0
        for chunk in self.read(sha256, start):
            digest.update(chunk)
            out.write(chunk)
            progress(len(chunk))
        if digest.hexdigest() == sha256:
            return
        if start:
            # the beginning was of something else, or a power cut took a part of it
            progress(-out.tell())
            out.seek(0)
            out.truncate()
            self.get(sha256, out, progress=progress)
            return
        raise StoreDamaged(
            f"store {self.name}: object {sha256} has other content than its name says;"
            " delete it there and submit the study again"
        )

    def put_folder(self, folder: Path, exclude: Sequence[str] = ()) -> str:
        """Keep a folder as a bundle; returns its hash, which depends on names and contents only."""
        now = look(folder)
        before = self._unchanged.packed(folder, exclude, now)
        if before is not None and self.renewed(before.sha256, before.size_bytes):
            return before.sha256
        with tempfile.TemporaryFile() as packed:
            write_bundle(folder, packed, exclude=exclude, limits=self.bundles)
            packed.seek(0)
            kept = Packed(*self.put(packed))
        self._unchanged.note(folder, exclude, now, kept)
        return kept.sha256

    @cached_property
    def _unchanged(self) -> Unchanged:
        return Unchanged()

    def get_folder(self, sha256: str, into: Path) -> None:
        """Unpack a bundle into `into`, which is made if need be. Raises as `get` does."""
        into.mkdir(parents=True, exist_ok=True)
        # where it is unpacked there is room for it; /tmp may be a small disk in memory
        with tempfile.TemporaryFile(dir=into.parent) as packed:
            self.get(sha256, packed)
            packed.seek(0)
            try:
                read_bundle(packed, into, limits=self.bundles)
            except tarfile.TarError as error:
                raise StoreDamaged(f"bundle {sha256} cannot be unpacked: {error}") from error


def _take_in(out: IO[bytes], update: Callable[[bytes], None], progress: Progress) -> int:
    while chunk := out.read(CHUNK_BYTES):
        update(chunk)
        progress(len(chunk))
    return out.tell()
