"""Finding and ending processes through /proc."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: Seconds between SIGTERM and SIGKILL.
TERM_GRACE_S = 1.0
_KILL_WAIT_S = 5.0


def pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def variable(pid: int, name: str) -> str | None:
    """A variable of a process's environment as it was started with; None where that is not readable."""
    prefix = name.encode() + b"="
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:
            content = environ.read()
    except OSError:
        return None
    for entry in content.split(b"\0"):
        if entry.startswith(prefix):
            return entry[len(prefix) :].decode(errors="replace")
    return None


def marked(name: str, value: str) -> list[int]:
    """Processes with this variable in their environment, other than this one."""
    entry = f"{name}={value}".encode()
    found = []
    for pid in pids():
        with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as environ:
            if pid != os.getpid() and entry in environ.read().split(b"\0"):
                found.append(pid)
    return found


def is_running(pid: int) -> bool:
    """Whether it exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def session_rss_bytes(session: int) -> int:
    """Resident memory of all processes of a session; pages that they share count for each."""
    total = 0
    for pid in pids():
        with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
            if int(fields[3]) == session:
                total += int(fields[21]) * _PAGE_BYTES
    return total


def signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def kill_marked(name: str, value: str) -> int:
    """SIGKILL processes that carry the variable until there is none; returns how many there were."""
    killed: set[int] = set()
    end = time.monotonic() + _KILL_WAIT_S
    while time.monotonic() < end:
        left = [pid for pid in marked(name, value) if is_running(pid)]
        if not left:
            break
        for pid in left:
            killed.add(pid)
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        _await_end(left)
    return len(killed)


def _await_end(some: list[int]) -> None:
    for pid in some:
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            poller = select.poll()
            poller.register(handle, select.POLLIN)
            poller.poll(1000)
        finally:
            os.close(handle)
