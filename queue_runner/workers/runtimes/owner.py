"""Who owns processes and folders: a folder with a lock that is held for as long as the worker lives.

A worker that was killed cannot tidy up; the next one on the same host finds what it left by the lock
that nobody holds any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

from queue_runner.errors import FixThis
from queue_runner.workers.runtimes.environment import OWNER
from queue_runner.workers.runtimes.processes import kill_marked, pids, variable

_PREFIX = ".owner-"
_TEMPORARY = "queue-runner-"


class Owner:
    """`folder`: below `scratch`, for running attempts; `temporary`: short paths for sockets."""

    def __init__(self, scratch: Path) -> None:
        self.name = uuid.uuid4().hex[:12]
        self.folder = (scratch / f"{_PREFIX}{self.name}").absolute()
        self.lock = self.folder / "lock"
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700)
            self._lock = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FixThis(
                f"scratch folder {scratch}: {error.strerror}: choose a writable one with --scratch"
            ) from error
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # removed by `close`, and by the next worker's sweep where this one could not
        self.temporary = Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY}{self.name}-"))

    def close(self) -> None:
        shutil.rmtree(self.temporary, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            os.close(self._lock)


def sweep(scratch: Path) -> int:
    """End processes and remove folders whose owner is dead; returns how many processes there were."""
    ended = 0
    for lock in {variable(pid, OWNER) for pid in pids() if pid != os.getpid()} - {None}:
        if lock is not None and not held(Path(lock)):
            ended += kill_marked(OWNER, lock)
    for folder in scratch.glob(f"{_PREFIX}*"):
        if not held(folder / "lock"):
            name = folder.name.removeprefix(_PREFIX)
            for temporary in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}{name}-*"):
                shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
    return ended


def held(lock: Path) -> bool:
    """Whether the owner of this lock is alive."""
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # another user's: not ours to judge
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
