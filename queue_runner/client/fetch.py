"""Bring artifacts back from the store, as files with the names they had in their work folders."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO

from queue_runner.errors import FixThis, NotFound, StoreDamaged
from queue_runner.model import Artifact, Result
from queue_runner.store import Store
from queue_runner.store.content import checked, measure

#: Transfers at once: enough to hide the way to the store for many small files.
_AT_ONCE = 4
#: Errors that concern one file, whatever the disk.
_BAD_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ)
#: Jobs that are handed out together; bounds what waits.
_JOBS = 100
#: Files that could not be fetched and are named.
_REFUSED_KEPT = 1000

Progress = Callable[[int], None]


@dataclass(slots=True)
class Fetched:
    """What a fetch came to.

    not_fetched: how many files could not be brought; refused: a line for each of the first of them.
    """

    files: int = 0
    size_bytes: int = 0
    there_already: int = 0
    not_fetched: int = 0
    refused: list[str] = field(default_factory=list)

    def add(self, other: Fetched) -> None:
        self.files += other.files
        self.size_bytes += other.size_bytes
        self.there_already += other.there_already
        self.not_fetched += other.not_fetched
        self.refused += other.refused[: _REFUSED_KEPT - len(self.refused)]

    def refuse(self, job_id: str, name: str, why: object) -> None:
        self.not_fetched += 1
        self.refused.append(f"{job_id}: {name!r:.200}: {why}")


def wanted(result: Result, patterns: Iterable[str]) -> list[Artifact]:
    """The artifacts whose name matches one of the patterns; all of them where there are none."""
    some = list(patterns)
    return [
        artifact
        for artifact in result.artifacts
        if not some or any(fnmatchcase(artifact.name, pattern) for pattern in some)
    ]


def fetch_results(
    store: Store,
    results: Iterable[Result],
    target: Path,
    *,
    patterns: Iterable[str] = (),
    progress: Progress = lambda count_bytes: None,
) -> Fetched:
    """Write `TARGET/JOB-ID/NAME` for every artifact of the results.

    Done again it goes on where it stopped: what is there is verified and left alone, half a file is
    completed. Nothing is ever written outside `target`. Files that the store lacks, or whose content
    or name is bad, are listed in `refused`. Raises `StoreUnavailable`, `StoreRefused`, `FixThis` (disk).
    """
    some, sum_ = list(patterns), Fetched()
    fetch = _Fetch(store, target, progress)
    remaining = iter(results)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as pool:
        while batch := list(itertools.islice(remaining, _JOBS)):
            jobs = [pool.submit(fetch.job, result, wanted(result, some)) for result in batch]
            try:
                for job in jobs:
                    sum_.add(job.result())
            except BaseException:
                fetch.stop.set()
                pool.shutdown(cancel_futures=True)
                raise
    return sum_


class _Fetch:
    def __init__(self, store: Store, target: Path, progress: Progress) -> None:
        self._store, self._target, self._tell = store, target, progress
        #: Ends transfers at their next piece: what they have is continued another time.
        self.stop = threading.Event()

    def _progress(self, count_bytes: int) -> None:
        if self.stop.is_set():
            raise CancelledError
        self._tell(count_bytes)

    def job(self, result: Result, artifacts: Iterable[Artifact]) -> Fetched:
        done = Fetched()
        for artifact in artifacts:
            try:
                self._artifact(result.job_id, artifact, done)
            except (NotFound, StoreDamaged, _BadName, UnicodeEncodeError) as error:
                done.refuse(result.job_id, artifact.name, error)
            except OSError as error:
                if error.errno in _BAD_NAMES:
                    done.refuse(result.job_id, artifact.name, error.strerror)
                    continue
                raise FixThis(
                    f"{self._target}: {error}. Make room or choose another folder; the same command"
                    " goes on where it stopped."
                ) from error
        return done

    def _artifact(self, job_id: str, artifact: Artifact, done: Fetched) -> None:
        path = safe_path(self._target, job_id, artifact.name)
        if _is_there(path, artifact):
            done.there_already += 1
            self._progress(artifact.size_bytes)
        else:
            self._transfer(artifact, path)
        done.files += 1
        done.size_bytes += artifact.size_bytes

    def _transfer(self, artifact: Artifact, path: Path) -> None:
        # named after the content: the half of another attempt's file is not continued
        partial = path.with_name(f".{checked(artifact.sha256)[:32]}.part")
        try:
            with _open_partial(partial) as out:
                self._store.get(artifact.sha256, out, resume=True, progress=self._progress)
        except (NotFound, StoreDamaged):
            partial.unlink()
            raise
        os.replace(partial, path)


class _BadName(FixThis):
    """A name that leads outside, or that no file can have here."""


def safe_path(target: Path, job_id: str, name: str) -> Path:
    """Where an artifact belongs; its folder is made. Raises `_BadName` rather than leave `target`."""
    parts = [job_id, *PurePosixPath(name).parts]
    bad = {"", ".", "..", "/", "//"}
    if not name or name.endswith("/") or name in bad or "\0" in name or bad & set(parts):
        raise _BadName("not a name of a file inside the job's folder")
    if "/" in job_id or "\0" in job_id:
        raise _BadName("not a job's id")
    os.fsencode(name)  # a name that no file can have is known before anything is written
    target.mkdir(parents=True, exist_ok=True)
    folder = target
    for part in parts[:-1]:
        folder = folder / part
        _make_folder(folder)
    path = folder / parts[-1]
    if path.is_dir() and not path.is_symlink():
        raise _BadName(f"{path} is a folder")
    return path


def _make_folder(folder: Path) -> None:
    # a link may have been put there, by whoever, to lead elsewhere
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise _BadName(f"{folder} is there already, and is no folder")
    folder.mkdir(exist_ok=True)


def _open_partial(path: Path) -> IO[bytes]:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    out = open(os.open(path, flags, 0o666), "r+b")  # noqa: SIM115 - the caller's to close
    try:
        fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        out.close()
        raise FixThis(f"{path.parent}: another fetch is writing there; wait for it") from error
    return out


def _is_there(path: Path, artifact: Artifact) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != artifact.size_bytes:
        return False
    with path.open("rb") as content:
        return measure(content)[0] == artifact.sha256
