"""What a system could leave behind on this machine: processes, containers, files."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from queue_runner.images.engine import open_engine
from queue_runner.workers.runtimes.docker.leftovers import OWNER
from queue_runner.workers.runtimes.processes import is_running, pids

#: Seconds in which what is told of an end has tidied up.
_TIDY_S = 60.0


def await_none(what: str, look: Callable[[], Sequence[object]]) -> None:
    end = time.monotonic() + _TIDY_S
    while left := look():
        assert time.monotonic() < end, f"{what} left behind: {left}"
        time.sleep(0.1)


def processes(folder: Path) -> list[str]:
    """Those that were told of a folder, by environment or argument: daemons, helpers, jobs."""
    return [f"{pid}: {_command(pid)}" for pid in _pids(folder)]


def end(folder: Path) -> None:
    """Kill what a test that failed has left."""
    for pid in _pids(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _pids(folder: Path) -> list[int]:
    # whatever is below the folder; not another whose name begins alike
    told = f"{folder}/".encode()
    found = []
    for pid in pids():
        with suppress(OSError):
            words = b"".join(
                Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline")
            )
            if told in words and pid != os.getpid() and is_running(pid):
                found.append(pid)
    return found


def _command(pid: int) -> str:
    with suppress(OSError):
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    return "ended"


def containers(scratch: Path) -> list[str]:
    """Of workers with this scratch folder, running or not."""
    with open_engine() as client:
        found = client.containers.list(all=True, filters={"label": OWNER}, ignore_removed=True)
        return [str(each.name) for each in found if each.labels[OWNER].startswith(f"{scratch}/")]


def files(*folders: Path) -> list[str]:
    return [str(path) for folder in folders if folder.exists() for path in sorted(folder.iterdir())]
