"""Files of a finished attempt that are kept in the store, and the tail of its log."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from queue_runner.errors import JobError
from queue_runner.model import Artifact, Reason
from queue_runner.store import Store
from queue_runner.workers.leavings import open_file

#: A result travels as a message: it may not list more files than this.
MAX_ARTIFACTS = 10_000
_TAIL_LINES = 40
_TAIL_BYTES = 8192


def keep_files(
    store: Store, folder: Path, logs: Iterable[str], patterns: Iterable[str]
) -> tuple[Artifact, ...]:
    """Put the logs and all that `patterns` match into the store. Raises as `Store.put`; `JobError`.

    Symbolic links are not followed: what they point to may be outside the work folder.
    """
    kept = []
    for path in _chosen(folder, logs, patterns):
        _refuse_unsayable(path.relative_to(folder).as_posix())
        with open_kept(path) as content:
            sha256, size_bytes = store.put(content)
        kept.append(Artifact(path.relative_to(folder).as_posix(), sha256, size_bytes))
    return tuple(kept)


def open_kept(path: Path) -> IO[bytes]:
    """A file of a work folder, which may have become a link since it was looked at: then `OSError`."""
    return open_file(path)


def _refuse_unsayable(name: str) -> None:
    # Linux takes any bytes as a name; those that are no text cannot travel in a result
    if any(0xD800 <= ord(character) <= 0xDFFF for character in name):
        raise JobError(
            Reason.STORE, f"keep: the name of the file {name!r:.200} is not UTF-8; rename it"
        )


def _chosen(folder: Path, logs: Iterable[str], patterns: Iterable[str]) -> list[Path]:
    written = [path for log in logs if _has_content(path := folder / log)]
    found = set(kept_files(folder, patterns))
    if len(found) > MAX_ARTIFACTS:
        raise JobError(
            Reason.STORE,
            f"`keep` matches {len(found)} files, of which the limit is {MAX_ARTIFACTS};"
            " pack them in the job's last step",
        )
    # the logs first, in the order of their steps
    return [*written, *sorted(found - set(written))]


def kept_files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """The files that the patterns match, in the order of their names; no links, and nothing outside."""
    matched = (path for pattern in patterns for path in _glob(folder, pattern))
    return sorted({path for path in matched if _kept(path, folder)})


def _glob(folder: Path, pattern: str) -> Iterable[Path]:
    # a final ** means everything below; pathlib took it for folders only until Python 3.13
    wanted = f"{pattern}/*" if pattern.endswith("**") else pattern
    try:
        return list(folder.glob(wanted))
    except (ValueError, NotImplementedError, IndexError) as error:
        raise JobError(Reason.STORE, f"keep: {pattern!r}: {error}") from error


def _has_content(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode) and path.lstat().st_size > 0
    except OSError:
        return False


def _kept(path: Path, folder: Path) -> bool:
    # a folder on the way may be a link, too
    return (
        path.is_file() and not path.is_symlink() and path.resolve().is_relative_to(folder.resolve())
    )


def log_tail(path: Path) -> str:
    """The last lines of a log, whatever bytes are in it."""
    try:
        with open_file(path) as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - _TAIL_BYTES))
            content = log.read(_TAIL_BYTES)
    except OSError:
        return ""
    text = content.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    return "\n".join(text.splitlines()[-_TAIL_LINES:])
