"""Content and its name: the SHA-256 in hex, taken while the content is read."""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from queue_runner.errors import NotFound

#: What is in memory of a file at any time.
CHUNK_BYTES = 1024 * 1024
#: Ids of jobs are among these.
MARK_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}"
_MARK = re.compile(MARK_PATTERN)


def checked(sha256: str) -> str:
    """The name itself. Raises `NotFound` for what cannot be one, so that it is safe in a path."""
    if not is_name(sha256):
        raise NotFound(f"{sha256!r:.80} is not a SHA-256 in hex")
    return sha256


def is_name(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def checked_mark(name: str) -> str:
    """The name itself. Raises `NotFound` for what cannot be that of a mark; it is safe in a path and URL."""
    if not _MARK.fullmatch(name):
        raise NotFound(f"{name!r:.80} cannot be the name of a mark")
    return name


def measure(source: IO[bytes], out: IO[bytes] | None = None) -> tuple[str, int]:
    """Read `source` to its end, into `out` if there is one; returns (SHA-256, size in bytes)."""
    digest, size_bytes = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        size_bytes += len(chunk)
        if out is not None:
            out.write(chunk)
    return digest.hexdigest(), size_bytes


@contextmanager
def seekable(source: IO[bytes]) -> Iterator[IO[bytes]]:
    """`source` itself where it can be read again, else a copy of it."""
    try:
        source.seek(source.tell())
    except (OSError, io.UnsupportedOperation, AttributeError):
        with tempfile.TemporaryFile() as copy:
            measure(source, copy)
            copy.seek(0)
            yield copy
        return
    yield source
