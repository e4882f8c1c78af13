"""Who owns processes and folders: a folder with a lock that is held for as long as the worker lives.

A worker that was killed cannot tidy up; its janitor, or the next worker on the same host, finds what it
left by the lock that nobody holds any more.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from queue_runner.errors import FixThis
from queue_runner.workers.leavings import remove
from queue_runner.workers.runtimes import handover
from queue_runner.workers.runtimes.environment import OWNER
from queue_runner.workers.runtimes.processes import kill_marked, pids, shares_files, variable

_PREFIX = ".owner-"
#: A folder whose lock is not held yet has another name, or the sweep of a worker that starts at the same
#: time would remove it, and the jobs of its owner would pass for those of a dead one.
BEGUN = ".begun-"
_BEGUN_S = 600.0
_TEMPORARY = "queue-runner-"
#: Seconds between two looks for a successor.
_LOOK_S = 0.2
#: Seconds that a process may take from the end of its first file to that of its lock, and between looks.
_DYING_S, _DYING_LOOK_S = 10.0, 0.02


class Owner:
    """`folder`: below `scratch`, for running attempts; `temporary`: short paths for sockets.

    successor_of: the name of a worker; where one of that name has handed its folder over, it is this one's.
    """

    def __init__(self, scratch: Path, successor_of: str | None = None) -> None:
        taken = None if successor_of is None else _taken_over(scratch, successor_of)
        self.folder, lock = taken if taken is not None else _new(scratch)
        self._lock: int | None = lock
        self.name = self.folder.name.removeprefix(_PREFIX)
        self.lock = self.folder / "lock"
        self._handed = False
        # removed by `close`, and by the next worker's sweep where this one could not
        self.temporary = Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY}{self.name}-"))

    def hand_over(self, worker: str, within_s: float) -> None:
        """Let `close` leave the folder to the next owner for a worker of that name."""
        handover.write(self.folder, worker, within_s)
        self._handed = True

    def close(self) -> None:
        """Idempotent."""
        if self._lock is None:
            return
        remove(self.temporary)
        if not self._handed:
            remove(self.folder)
        lock, self._lock = self._lock, None
        os.close(lock)


def _new(scratch: Path) -> tuple[Path, int]:
    name = uuid.uuid4().hex[:12]
    begun, folder = (scratch.absolute() / f"{prefix}{name}" for prefix in (BEGUN, _PREFIX))
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        begun.mkdir(mode=0o700)
        lock = os.open(begun / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        begun.rename(folder)
    except OSError as error:
        raise FixThis(
            f"scratch folder {scratch}: {error.strerror}: choose a writable one with --scratch"
        ) from error
    return folder, lock


def _taken_over(scratch: Path, worker: str) -> tuple[Path, int] | None:
    for folder in folders(scratch):
        note = handover.read(folder)
        if note is None or note.worker != worker or note.left_s <= 0:
            continue
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        handover.remove(folder)
        return folder.absolute(), lock
    return None


def sweep(scratch: Path, begun_s: float = _BEGUN_S) -> int:
    """End processes and remove folders whose owner is dead; returns how many processes there were.

    begun_s: how old a folder is that was never finished.
    """
    ended = 0
    # the lock of a worker in a container, or in a chroot, is at a path of its own: not ours to judge
    others = (pid for pid in pids() if pid != os.getpid() and shares_files(pid))
    for lock in {variable(pid, OWNER) for pid in others} - {None}:
        if lock is not None and not held(Path(lock)):
            ended += kill_marked(OWNER, lock)
    for folder in folders(scratch):
        if not held(folder / "lock"):
            _remove(folder)
    for folder in scratch.glob(f"{BEGUN}*"):
        with suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime >= begun_s:
                remove(folder)
    return ended


def folders(scratch: Path) -> Iterator[Path]:
    """Of all owners below `scratch`, living and dead."""
    return scratch.glob(f"{_PREFIX}*")


def tidy(lock: Path) -> None:
    """End the processes and remove the folders of an owner that is dead, or dying; nothing if it lives."""
    if not lock.parent.name.startswith(_PREFIX):
        return
    # the kernel closes the files of one that was killed in an order of its own: its end of a pipe may be gone
    # before its lock is
    end = time.monotonic() + _DYING_S
    while held(lock):
        if time.monotonic() >= end:
            return
        time.sleep(_DYING_LOOK_S)
    kill_marked(OWNER, str(lock))
    _remove(lock.parent)


def _remove(folder: Path) -> None:
    name = folder.name.removeprefix(_PREFIX)
    for temporary in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}{name}-*"):
        remove(temporary)
    remove(folder)


def held(lock: Path) -> bool:
    """Whether the owner of this lock is alive, or has handed over and its successor may still come."""
    note = handover.read(lock.parent)
    return (note is not None and note.left_s > 0) or _locked(lock)


def await_successor(lock: Path) -> bool:
    """Wait while a successor may come for what its owner has handed over; returns whether one has."""
    handed = False
    while (note := handover.read(lock.parent)) is not None and note.left_s > 0:
        handed = True
        time.sleep(min(_LOOK_S, note.left_s))
    return handed and _locked(lock)


def _locked(lock: Path) -> bool:
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # another user's: not ours to judge
    try:
        # shared: a janitor and a worker that starts may ask at the same time, and would take each other for
        # the owner
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
