"""A folder as one file with one hash: a tar whose bytes depend on names, modes and contents only."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO

from queue_runner.errors import StudyError, TooBig

#: Never part of a template: what editors, version control and Python leave behind.
LITTER = (".git", ".hg", ".svn", "__pycache__", "*.pyc", "*~", ".#*", ".DS_Store")


def write_bundle(
    folder: Path, out: IO[bytes], *, exclude: Sequence[str] = (), max_bytes: int = 2 * 1024**3
) -> None:
    """Write the files below `folder` as a tar. Raises `TooBig`, `StudyError` (links that lead out).

    Symbolic links to files inside the folder are stored as what they point to.
    """
    total = 0
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in _files(folder, exclude):
            info = tarfile.TarInfo(name)
            info.mode = 0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644
            if path.is_dir():
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
                continue
            info.size = path.stat().st_size
            total += info.size
            if total > max_bytes:
                raise TooBig(
                    f"{folder}: more than {max_bytes // 1024**2} MiB of files."
                    " Leave results out of the template folder, or exclude them."
                )
            with path.open("rb") as content:
                tar.addfile(info, content)


def read_bundle(source: IO[bytes], into: Path) -> None:
    """Unpack a bundle, which holds files and folders only.

    Raises `tarfile.TarError` for members that would leave `into`, or that are neither.
    """
    # by hand: tarfile's own filters came with Python 3.11.4, and Debian 12 has 3.11.2
    into.mkdir(parents=True, exist_ok=True)
    root = into.resolve()
    with tarfile.open(fileobj=source, mode="r|") as tar:
        for member in tar:
            path = root / member.name
            if not path.resolve().is_relative_to(root):
                raise tarfile.TarError(f"{member.name!r:.200} leads outside the bundle")
            _unpack(tar, member, path)


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise tarfile.TarError(f"{member.name!r:.200} is neither a file nor a folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with content, path.open("wb") as out:
        shutil.copyfileobj(content, out)
    path.chmod(0o755 if member.mode & 0o100 else 0o644)


def _files(folder: Path, exclude: Sequence[str]) -> Iterator[tuple[str, Path]]:
    root = folder.resolve()
    for directory, folders, files in os.walk(root, followlinks=False):
        here = Path(directory)
        folders[:] = sorted(f for f in folders if not _left_out(root, here / f, exclude))
        for name in sorted(files) + folders:
            path = here / name
            if _left_out(root, path, exclude):
                continue
            target = path.resolve()
            if not target.is_relative_to(root):
                raise StudyError(f"{path}: a link that leads outside the template folder {folder}")
            if target.is_dir() and path.is_symlink():
                raise StudyError(f"{path}: a link to a folder; copy the folder instead")
            if not (target.is_dir() or target.is_file()):
                raise StudyError(f"{path}: neither a file nor a folder")
            yield path.relative_to(root).as_posix(), path


def _left_out(root: Path, path: Path, exclude: Sequence[str]) -> bool:
    relative = PurePosixPath(path.relative_to(root).as_posix())
    return any(fnmatch(relative.name, pattern) for pattern in LITTER) or any(
        fnmatch(str(relative), pattern) for pattern in exclude
    )
