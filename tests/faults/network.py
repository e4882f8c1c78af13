"""Containers on a network of their own, each at an address that it keeps, so that it can be cut off."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from docker import DockerClient
from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from queue_runner.testing.servers import leftovers

_TRIES = 20


@dataclass(frozen=True)
class Network:
    """Reached from the host by the containers' own addresses: nothing is published."""

    client: DockerClient
    docker: Any
    prefix: str

    def address(self, number: int) -> str:
        """Of the container number 0 to 99 here."""
        return f"{self.prefix}.{number + 100}"

    @contextmanager
    def container(self, image: str, number: int, **settings: Any) -> Iterator[Any]:
        """A container, started, at `address(number)`; removed with its volumes at the end."""
        with ExitStack() as stack:
            made = self.client.containers.create(
                image, labels=dict(leftovers.labels()), network=self.docker.name, **settings
            )
            stack.callback(made.remove, force=True, v=True)
            # the address can only be given when a container is connected by hand
            self.cut(made)
            self.mend(made, number)
            made.start()
            yield made

    def cut(self, container: Any) -> None:
        """As a cable that is pulled: no side is told, and what is sent is gone."""
        self.docker.disconnect(container)

    def mend(self, container: Any, number: int) -> None:
        self.docker.connect(container, ipv4_address=self.address(number))


@contextmanager
def network(client: DockerClient, seed: random.Random | None = None) -> Iterator[Network]:
    """One whose subnet nobody else has."""
    leftovers.remove(client)
    _remove_left(client)
    chosen = seed or random.Random()
    for last in range(_TRIES):
        prefix = f"10.{chosen.randint(200, 250)}.{chosen.randint(0, 255)}"
        pool = IPAMConfig(pool_configs=[IPAMPool(subnet=f"{prefix}.0/24")])
        name = f"queue-runner-faults-{prefix}"
        try:
            made = client.networks.create(
                name, driver="bridge", ipam=pool, labels=dict(leftovers.labels())
            )
        except APIError as error:
            if "overlap" not in str(error) or last == _TRIES - 1:
                raise
            continue
        break
    try:
        yield Network(client, made, prefix)
    finally:
        made.remove()


def _remove_left(client: DockerClient) -> None:
    """Networks of test runs that were killed."""
    for found in client.networks.list(filters={"label": leftovers.OWNER_LABEL}):
        if leftovers.gone(found.attrs["Labels"][leftovers.OWNER_LABEL]):
            found.remove()
