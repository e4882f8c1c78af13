"""Containers of test runs that were killed: found by their label, removed by the next run."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from docker import DockerClient

#: Host, process and its start time of the test run that a container belongs to.
OWNER_LABEL = "queue-runner.testing.owner"


def labels() -> Mapping[str, str]:
    """For a container of this process."""
    return {OWNER_LABEL: _owner(psutil.Process())}


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


def _owner(process: psutil.Process) -> str:
    return f"{socket.gethostname()} {process.pid} {process.create_time():.2f}"


def gone(owner: str) -> bool:
    """Whether the test run that made something with this label has ended, on this host."""
    host, _, rest = owner.partition(" ")
    pid = rest.partition(" ")[0]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        return _owner(psutil.Process(int(pid))) != owner
    except psutil.NoSuchProcess:
        return True
