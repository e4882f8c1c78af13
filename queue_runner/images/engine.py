"""The Docker engine, and its errors in words for the user."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from queue_runner.errors import EngineRefused, EngineUnavailable, MissingTool

if TYPE_CHECKING:
    from docker import DockerClient


@contextmanager
def open_engine(timeout_s: float = 60.0) -> Iterator[DockerClient]:
    """The engine at DOCKER_HOST, else at the usual socket.

    timeout_s: how long one answer may take; building and pulling send many. Raises `MissingTool` (no
    Python package `docker`), `EngineUnavailable`, `EngineRefused` (no permission on its socket).
    """
    try:
        import docker
        from docker.errors import DockerException
    except ImportError as error:
        raise MissingTool(
            "the Python package docker is not installed: pip install 'queue-runner[docker]'"
        ) from error
    with ExitStack() as stack:
        try:
            _knock()
            client = docker.from_env(timeout=int(timeout_s))
            stack.callback(client.close)
            client.ping()
        except (DockerException, OSError) as error:
            raise engine_error(error) from error
        yield client


@contextmanager
def engine_errors() -> Iterator[None]:
    """Turn what the SDK raises when the engine goes away into `EngineUnavailable`.

    What it answers (`docker.errors.APIError`) passes, unless that is trouble of its own: a status from 500.
    """
    import requests
    import urllib3
    from docker.errors import APIError

    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError) as error:
        if isinstance(error, APIError) and (error.status_code or 0) < 500:
            raise
        raise engine_error(error) from error


def _knock() -> None:
    """The SDK leaves its socket open when it cannot connect it."""
    scheme, _, path = _where().partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.connect(path)


def engine_error(error: Exception) -> EngineUnavailable | EngineRefused:
    """What the SDK or its transport raised when the engine could not be reached at all."""
    where = _where()
    if "Permission denied" in str(error):
        return EngineRefused(
            f"no permission on the Docker engine's socket {where}: add this user to the group docker"
            " (and log in again), or set DOCKER_HOST to an engine of your own"
        )
    if getattr(error, "response", None) is not None:
        return EngineUnavailable(f"the Docker engine at {where} is in trouble: {_last(error)}")
    return EngineUnavailable(
        f"no Docker engine answers at {where}: start it, or set DOCKER_HOST ({_last(error)})"
    )


def _where() -> str:
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def _last(error: Exception) -> str:
    return str(error).splitlines()[-1][:300] if str(error) else type(error).__name__
