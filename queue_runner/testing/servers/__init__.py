"""Throwaway broker servers for tests and benchmarks: `with start_server("redis") as server: server.url`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from queue_runner.testing.handle import BrokerServerHandle
from queue_runner.testing.servers.local import LocalServer
from queue_runner.testing.servers.recipes import RECIPES


@contextmanager
def start_server(name: str) -> Iterator[BrokerServerHandle]:
    """A server of your own, `redis`, `rabbitmq` or `zeromq`; it and all it stored are gone at the end.

    Raises `MissingTool` where its program is not installed, `BrokerUnavailable` when it does not start.
    """
    recipe = RECIPES[name]
    with tempfile.TemporaryDirectory(prefix="queue-runner-") as folder:
        server = LocalServer(recipe(Path(folder)), Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.close()
