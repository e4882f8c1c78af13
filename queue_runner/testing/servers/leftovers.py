"""Containers of test runs that were killed: found by their label, removed by the next run."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker import DockerClient

#: Of the test run that a container belongs to: its host, the process, and when this was started, in ticks
#: since the machine was. Not by the clock, which may be set meanwhile: the run would seem to have ended.
OWNER_LABEL = "queue-runner.testing.owner"


def labels() -> Mapping[str, str]:
    """For a container of this process."""
    return {OWNER_LABEL: _owner(os.getpid())}


def remove(client: DockerClient) -> int:
    """Remove containers whose test run has ended, on this host; returns how many."""
    from docker.errors import NotFound

    removed = 0
    for container in client.containers.list(
        all=True, filters={"label": OWNER_LABEL}, ignore_removed=True
    ):
        if not gone(container.labels[OWNER_LABEL]):
            continue
        try:
            container.remove(force=True, v=True)
        except NotFound:
            # another run was faster
            continue
        removed += 1
    return removed


def _owner(pid: int) -> str:
    """Raises `OSError` for a process that is not there."""
    # after the name, which may have spaces and parentheses: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{socket.gethostname()} {pid} {started}"


def gone(owner: str) -> bool:
    """Whether the test run that made something with this label has ended, on this host."""
    host, _, rest = owner.partition(" ")
    pid = rest.partition(" ")[0]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        return _owner(int(pid)) != owner
    except OSError:
        return True
