"""What a job leaves in its work folder, made harmless before a worker looks at it.

A job may have put anything there: links that lead out, pipes that nobody writes to, folders that nobody may
enter, nested deeper than a path is long. The worker may be another user, with more rights than the job had.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from queue_runner.errors import JobError
from queue_runner.model import Reason
from queue_runner.paths import leads_into

log = logging.getLogger("queue_runner.worker")

#: Folders in folders, and characters of a folder's path; beyond, names have no path and programs stumble.
_MOST_DEEP, _MOST_LONG = 100, 900
#: Files and folders that are looked through; a list of ten million of them would fill the memory.
MOST_ENTRIES = 2_000_000
#: Of a line; the rest of a longer one counts as further lines.
_MOST_LINE = 64 * 1024
_MADE = stat.S_IFDIR | 0o700


def open_file(path: Path) -> IO[bytes]:
    """A regular file, for reading; at once, whatever is there. Raises `OSError` for links and all else."""
    return _regular(path, os.O_RDONLY)


def open_log(path: Path) -> IO[bytes]:
    """A regular file, made if need be, for adding to, unbuffered. Raises as `open_file` does."""
    return _regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def _regular(path: Path, flags: int) -> IO[bytes]:
    # a pipe would wait here for its other end
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    handle = os.open(path, flags, 0o644)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(handle, "ab", buffering=0) if flags & os.O_APPEND else open(handle, "rb")


@contextmanager
def lines_of(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a text file, whatever bytes are in it and however long they are."""
    with open_file(path) as content:
        yield _lines(content)


def _lines(content: IO[bytes]) -> Iterator[str]:
    while line := content.readline(_MOST_LINE):
        yield line.decode("utf-8", "replace")


def make_harmless(folder: Path, *, links: bool = True) -> None:
    """Take out of a folder what is neither a file nor a folder, and links that lead out of it.

    links: False leaves those, for steps to come. Whatever ran there has ended. Folders can be entered and
    files be read afterwards. Raises `JobError` where there are more than anybody looks through.
    """
    taken: list[str] = []
    for entry, depth in _entries(folder):
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISREG(mode):
            _give_rights(entry.path, mode, 0o400)
        elif not (
            (stat.S_ISDIR(mode) and _within_reach(entry, depth))
            or (stat.S_ISLNK(mode) and (not links or leads_into(Path(entry.path), folder)))
        ):
            remove(Path(entry.path))
            taken.append(entry.path)
    if taken:
        log.warning(
            "%s: taken out of what it left: %d such as %r", folder.name, len(taken), taken[0][:200]
        )


def _entries(folder: Path) -> Iterator[tuple[os.DirEntry[str], int]]:
    """All that is below, with its depth, but for what is out of reach."""
    waiting, left = [(str(folder), 0)], MOST_ENTRIES
    while waiting:
        here, depth = waiting.pop()
        _give_rights(here, os.lstat(here).st_mode, 0o700)
        with os.scandir(here) as entries:
            for entry in entries:
                left -= 1
                if left < 0:
                    raise JobError(
                        Reason.DISK_LIMIT,
                        f"it left more than {MOST_ENTRIES} files and folders, of which nothing is kept"
                        " or measured; pack or remove them in the job's last step",
                    )
                if entry.is_dir(follow_symlinks=False) and _within_reach(entry, depth):
                    waiting.append((entry.path, depth + 1))
                yield entry, depth


def _within_reach(folder: os.DirEntry[str], depth: int) -> bool:
    return depth < _MOST_DEEP and len(folder.path) < _MOST_LONG


def _give_rights(path: str, mode: int, least: int) -> None:
    if mode & least != least:
        os.chmod(path, stat.S_IMODE(mode) | least)


def is_as_made(folder: Path) -> bool:
    """Whether an empty folder that nobody else may enter, as `mkdtemp` makes it, still is that."""
    try:
        return os.lstat(folder).st_mode == _MADE and not os.listdir(folder)
    except OSError:
        return False


def remove(folder: Path) -> None:
    """Remove a folder and all in it, however deep, whoever may enter it; what stays is reported."""
    try:
        if stat.S_ISDIR(os.lstat(folder).st_mode):
            _empty(folder)
            os.rmdir(folder)
        else:
            os.unlink(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s is not removed: %s", folder, error)


def _empty(folder: Path) -> None:
    """Level by level: what is in a folder's folders moves up into it, so that no path gets long."""
    os.chmod(folder, 0o700)
    with _opened(folder) as top:
        numbers = itertools.count()
        while names := _first(top):
            for name in names:
                if _is_folder(name, top):
                    os.chmod(name, 0o700, dir_fd=top)
                    with _opened(name, top) as inner:
                        _move_up(inner, top, numbers)
                    os.rmdir(name, dir_fd=top)
                else:
                    os.unlink(name, dir_fd=top)


def _move_up(inner: int, top: int, numbers: Iterator[int]) -> None:
    while names := _first(inner):
        for name in names:
            if _is_folder(name, inner):
                # a folder is renamed by whoever may write to it
                os.chmod(name, 0o700, dir_fd=inner)
                new = f".{os.getpid()}-{next(numbers)}"
                os.rename(name, new, src_dir_fd=inner, dst_dir_fd=top)
            else:
                os.unlink(name, dir_fd=inner)


@contextmanager
def _opened(folder: Path | str, within: int | None = None) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(folder, flags, dir_fd=within)
    try:
        yield handle
    finally:
        os.close(handle)


def _first(folder: int, most: int = 1000) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for _, entry in zip(range(most), entries, strict=False)]


def _is_folder(name: str, folder: int) -> bool:
    return stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode)
