"""What a job leaves in its work folder, made harmless before a worker looks at it.

A job may have put anything there: links that lead out, pipes that nobody writes to, folders that nobody may
enter, nested deeper than a path is long. The worker may be another user, with more rights than the job had.
"""

from __future__ import annotations

import errno
import io
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
#: Bytes of a text that are read at once, and of a line; the rest of a longer one counts as further lines.
_PART = 64 * 1024
_MADE = stat.S_IFDIR | 0o700
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Folders in folders that are emptied where they are.
_FAR_DOWN = 20


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
    with texts_of(path) as texts:
        yield (line for text in texts for line in io.StringIO(text, newline="\n"))


@contextmanager
def texts_of(path: Path) -> Iterator[Iterator[str]]:
    """A text file in parts of whole lines, but for those that are longer than a part."""
    with open_file(path) as content:
        yield _texts(content)


def _texts(content: IO[bytes]) -> Iterator[str]:
    while part := content.read(_PART):
        if not part.endswith(b"\n"):
            part += content.readline(_PART)
        yield part.decode("utf-8", "replace")


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
    with _opened(folder) as top:
        numbers = itertools.count()
        while _clear(top, top, numbers, 0):
            pass


def _clear(here: int, top: int, numbers: Iterator[int], depth: int) -> bool:
    """Remove what is in a folder, or a part of that where it is much; whether there was anything.

    What is in a folder deep down moves up into `top`, so that neither paths nor open files get many.
    """
    found = _first(here)
    for entry in found:
        name = entry.name
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(name, dir_fd=here)
        elif depth < _FAR_DOWN:
            with _opened(name, here) as inner:
                while _clear(inner, top, numbers, depth + 1):
                    pass
            os.rmdir(name, dir_fd=here)
        else:
            # a folder is renamed by whoever may write to it
            _opened_up(name, here)
            new = f".{os.getpid()}-{next(numbers)}"
            os.rename(name, new, src_dir_fd=here, dst_dir_fd=top)
    return bool(found)


@contextmanager
def _opened(folder: Path | str, within: int | None = None) -> Iterator[int]:
    """A folder, which may be written to then."""
    try:
        handle = os.open(folder, _FOLDER, dir_fd=within)
    except PermissionError:
        _opened_up(folder, within)
        handle = os.open(folder, _FOLDER, dir_fd=within)
    try:
        # mostly it may: changing its rights takes longer than looking at them
        mode = os.fstat(handle).st_mode
        if mode & 0o700 != 0o700:
            os.fchmod(handle, stat.S_IMODE(mode) | 0o700)
        yield handle
    finally:
        os.close(handle)


def _opened_up(folder: Path | str, within: int | None) -> None:
    os.chmod(folder, 0o700, dir_fd=within)


def _first(folder: int, most: int = 1000) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for _, entry in zip(range(most), entries, strict=False)]
