"""A folder as one file with one hash: a tar whose bytes depend on names, modes and contents only."""

from __future__ import annotations

import errno
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO

from queue_runner.errors import StudyError, TooBig
from queue_runner.paths import leads_into

#: Never part of a template: what editors, version control and Python leave behind.
LITTER = (".git", ".hg", ".svn", "__pycache__", "*.pyc", "*~", ".#*", ".DS_Store")


@dataclass(frozen=True, slots=True)
class BundleLimits:
    """Of a bundle's files, by their own length; and how many files and folders."""

    max_bytes: int = 2 * 1024**3
    max_files: int = 1_000_000


DEFAULT_LIMITS = BundleLimits()
#: Of what stands before a member: its long name.
_MAX_HEADER_BYTES = 64 * 1024
#: What a name can be wrong with.
_BAD_NAMES = (
    errno.ENAMETOOLONG,
    errno.EILSEQ,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ELOOP,
)


def write_bundle(
    folder: Path,
    out: IO[bytes],
    *,
    exclude: Sequence[str] = (),
    limits: BundleLimits = DEFAULT_LIMITS,
) -> None:
    """Write the files below `folder` as a tar. Raises `TooBig`, `StudyError` (links that lead out).

    Symbolic links to files inside the folder are stored as what they point to.
    """
    total = 0
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number, (name, path) in enumerate(_files(folder, exclude)):
            if number >= limits.max_files:
                raise TooBig(
                    f"{folder}: more than {limits.max_files} files and folders. Leave results out of the"
                    " template folder, or exclude them; the limit is QUEUE_RUNNER_BUNDLE_FILES."
                )
            info = tarfile.TarInfo(name)
            info.mode = 0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644
            if path.is_dir():
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
                continue
            info.size = path.stat().st_size
            total += info.size
            if total > limits.max_bytes:
                raise TooBig(
                    f"{folder}: more than {limits.max_bytes // 1024**2} MiB of files. Leave results out"
                    " of the template folder, or exclude them; the limit is QUEUE_RUNNER_BUNDLE_SIZE."
                )
            with path.open("rb") as content:
                tar.addfile(info, content)


class _Member(tarfile.TarInfo):
    """Whose header is read whole, and so has to be small."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if not self.isreg() and self.size > _MAX_HEADER_BYTES:
            raise tarfile.TarError(f"a header of {self.size} bytes")
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return member


def read_bundle(source: IO[bytes], into: Path, *, limits: BundleLimits = DEFAULT_LIMITS) -> None:
    """Unpack a bundle, which holds files and folders only, and not more than said.

    Raises `tarfile.TarError` for members that would leave `into`, that are neither, or too many.
    """
    # by hand: tarfile's own filters came with Python 3.11.4, and Debian 12 has 3.11.2
    into.mkdir(parents=True, exist_ok=True)
    root = into.resolve()
    left = limits.max_bytes
    with tarfile.open(fileobj=source, mode="r|", tarinfo=_Member) as tar:
        for number, member in enumerate(tar):
            left -= member.size
            if number >= limits.max_files or left < 0:
                raise tarfile.TarError(
                    f"more than {limits.max_files} files or {limits.max_bytes} bytes, which are this"
                    " worker's limits (--bundle-files, --bundle-size)"
                )
            try:
                _unpack(tar, member, _inside(root, member.name))
            except OSError as error:
                if error.errno not in _BAD_NAMES:
                    raise
                raise tarfile.TarError(f"{member.name!r:.200}: {error.strerror}") from error
            # a list of all that were there is of no use here
            tar.members.clear()  # type: ignore[attr-defined]


def _inside(root: Path, name: str) -> Path:
    if "\0" in name or not (path := (root / name)).resolve().is_relative_to(root):
        raise tarfile.TarError(f"{name!r:.200} leads outside the bundle")
    return path


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    # a hole of any size takes no room in a bundle
    plain = member.isreg() and not member.issparse()
    content = tar.extractfile(member) if plain else None
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
            if not leads_into(path, root):
                raise StudyError(f"{path}: a link that leads outside the template folder {folder}")
            target = path.resolve()
            if target.is_dir() and path.is_symlink():
                raise StudyError(f"{path}: a link to a folder; copy the folder instead")
            if not (target.is_dir() or target.is_file()):
                raise StudyError(f"{path}: neither a file nor a folder")
            yield path.relative_to(root).as_posix(), path


def _left_out(root: Path, path: Path, exclude: Sequence[str]) -> bool:
    relative = PurePosixPath(path.relative_to(root).as_posix())
    return is_litter(relative.name) or any(fnmatch(str(relative), pattern) for pattern in exclude)


def is_litter(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in LITTER)
