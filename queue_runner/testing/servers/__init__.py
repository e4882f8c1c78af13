"""Throwaway broker servers for tests and benchmarks: `with start_server("redis") as server: server.url`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from queue_runner.errors import FixThis, MissingTool, QueueRunnerError
from queue_runner.testing.handle import BrokerServerHandle
from queue_runner.testing.servers.local import LocalServer
from queue_runner.testing.servers.recipes import RECIPES

#: `containers`, `programs`, or nothing: containers where an engine answers, else programs.
VARIABLE = "QUEUE_RUNNER_TESTING"
_WAYS = ("containers", "programs")


@contextmanager
def start_server(name: str) -> Iterator[BrokerServerHandle]:
    """A server of your own, `redis`, `rabbitmq` or `zeromq`; it and all it stored are gone at the end.

    Redis and RabbitMQ are containers where a Docker engine answers and their image is there or can be
    built, else programs of this machine; the ZeroMQ server is always a process. Raises `MissingTool`
    where there is neither, `BrokerUnavailable` when the server does not start.
    """
    server, folder = _server(name)
    with folder:
        try:
            server.start()
            yield server
        finally:
            server.close()


def _server(name: str) -> tuple[BrokerServerHandle, tempfile.TemporaryDirectory[str]]:
    way = os.environ.get(VARIABLE) or None
    if way not in (None, *_WAYS):
        raise FixThis(f"{VARIABLE}={way}: expected one of {', '.join(_WAYS)}, or nothing")
    if name == "zeromq" or way == "programs":
        return _program(name)
    if way == "containers":
        return _container(name)
    try:
        return _container(name)
    except QueueRunnerError as error:
        return _program(name, instead_of=error)


def _container(name: str) -> tuple[BrokerServerHandle, tempfile.TemporaryDirectory[str]]:
    if find_spec("testcontainers") is None:
        raise MissingTool("testcontainers is not installed: pip install 'queue-runner[testing]'")
    from queue_runner.testing.servers.containers import SERVICES, ContainerServer, ensure_image

    ensure_image(name)
    return ContainerServer(SERVICES[name]()), tempfile.TemporaryDirectory(prefix="queue-runner-")


def _program(
    name: str, instead_of: QueueRunnerError | None = None
) -> tuple[BrokerServerHandle, tempfile.TemporaryDirectory[str]]:
    folder = tempfile.TemporaryDirectory(prefix="queue-runner-")
    try:
        return LocalServer(RECIPES[name](Path(folder.name)), Path(folder.name)), folder
    except MissingTool as error:
        folder.cleanup()
        if instead_of is None:
            raise
        raise MissingTool(f"{error}; and no container: {instead_of}") from error
