"""Finding and ending processes through /proc."""

from __future__ import annotations

import ctypes
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
# linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36


def pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def shares_files(pid: int) -> bool:
    """Whether a path is the same file to it as here; not where that cannot be seen."""
    try:
        # a chroot has another root in the same mount namespace
        return os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink(
            "/proc/self/ns/mnt"
        ) and os.path.samefile(f"/proc/{pid}/root", "/proc/self/root")
    except OSError:
        return False


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


def adopt_orphans(yes: bool = True) -> None:
    """Become the parent of descendants whose own parent ends (PR_SET_CHILD_SUBREAPER of prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0)


def orphans() -> list[int] | None:
    """Children of this process's main thread, to which the kernel gives orphans; None: it cannot tell.

    What other threads have started is not among them.
    """
    pid = os.getpid()
    try:
        with open(f"/proc/self/task/{pid}/children", "rb") as children:
            return [int(child) for child in children.read().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return None


def kill_escaped(name: str, value: str) -> None:
    """As `kill_marked`, for descendants of a child that has ended, by a process that adopts orphans.

    Whatever is left of them has an ancestor that is an orphan now. So where no orphan carries the mark,
    there is none, and the environments of all processes of this host need not be read.
    """
    entry = f"{name}={value}".encode()
    ours: set[int] = set()
    seen: set[int] = set()
    while new := set((found := orphans()) or ()) - seen:
        # the children of one that is just ending become orphans before it has ended
        ours |= {pid for pid in new if _may_carry(pid, entry)}
        seen |= new
    if found is None or ours:
        kill_marked(name, value)
    for pid in ours:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _may_carry(pid: int, entry: bytes) -> bool:
    """Also true for one that is running, and whose environment cannot be read (any more)."""
    with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as environ:
        if content := environ.read():
            return entry in content.split(b"\0")
    return is_running(pid)


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
