"""Containers whose worker is dead: found by their labels, and removed.

By the next worker on this host (`sweep`), and by the process of `queue_runner.workers.runtimes.janitor`.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from queue_runner.images.engine import engine_errors
from queue_runner.workers.runtimes import owner as owners

if TYPE_CHECKING:
    from docker import DockerClient

OWNER = "queue-runner.owner"
HOST = "queue-runner.host"
JOB = "queue-runner.job"


def labels(owner: owners.Owner) -> dict[str, str]:
    return {OWNER: str(owner.lock), HOST: socket.gethostname()}


def remove(client: DockerClient, wanted: Mapping[str, str]) -> int:
    """Remove all containers with these labels; returns how many."""
    labels = [f"{name}={value}" for name, value in wanted.items()]
    with engine_errors():
        found = client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
        return sum(remove_one(client, str(container.id)) for container in found)


def remove_one(client: DockerClient, name: str) -> bool:
    """Remove a container, running or not; False where somebody else was faster, or is just doing it.

    name: or its id.
    """
    from docker.errors import APIError

    try:
        client.api.remove_container(name, force=True, v=True)
    except APIError as error:
        if error.status_code not in (404, 409):
            raise
        return False
    return True


def sweep(client: DockerClient) -> int:
    """Remove the containers of dead workers of this host; returns how many."""
    here = {HOST: socket.gethostname()}
    with engine_errors():
        found = client.containers.list(
            all=True, filters={"label": [f"{HOST}={here[HOST]}"]}, ignore_removed=True
        )
    dead = {
        lock
        for lock in (container.labels.get(OWNER) for container in found)
        if lock is not None and not owners.held(Path(lock))
    }
    return sum(remove(client, {**here, OWNER: lock}) for lock in dead)
