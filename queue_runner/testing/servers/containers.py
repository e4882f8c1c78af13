"""A throwaway server as a container, through testcontainers."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from queue_runner.brokers import connect
from queue_runner.errors import BrokerUnavailable
from queue_runner.images.build import Context, build, folder_files
from queue_runner.images.debian import BASE_TAG, ensure_debian
from queue_runner.images.engine import open_engine
from queue_runner.testing.handle import BrokerServerHandle
from queue_runner.testing.servers import leftovers
from queue_runner.testing.servers.ports import free_port

_HERE = Path(__file__).parent
_START_S = 120.0
_STOP_S = 60
_LOG_LINES = 60
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Service:
    """What a server in a container listens to and is told; `url` has places for host and port."""

    name: str
    port: int
    url: str
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        return f"queue-runner/{self.name}:latest"


def redis() -> Service:
    return Service("redis", 6379, "redis://{host}:{port}/0")


def rabbitmq() -> Service:
    password = secrets.token_hex(8)
    return Service(
        "rabbitmq",
        5672,
        f"amqp://tests:{password}@{{host}}:{{port}}/",
        {"RABBITMQ_USER": "tests", "RABBITMQ_PASSWORD": password},
    )


SERVICES: Mapping[str, Callable[[], Service]] = {"rabbitmq": rabbitmq, "redis": redis}


class ContainerServer(BrokerServerHandle):
    """Stop and start keep the container, and with it what the server stored and its port."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._container = _create(service)
        self._wrapped = self._container.get_wrapped_container()
        # "localhost" may be tried as ::1 first, where nothing is published
        host = self._container.get_container_host_ip().replace("localhost", "127.0.0.1")
        port = self._container.get_exposed_port(service.port)
        self._url = service.url.format(host=host, port=port)

    @property
    def url(self) -> str:
        return self._url

    def start(self) -> None:
        self._wrapped.start()
        try:
            with connect(self.url) as broker:
                broker.server(timeout_s=_START_S)
        except BrokerUnavailable as error:
            raise BrokerUnavailable(f"{error}. The end of its log:\n{self.log()}") from error

    def stop(self) -> None:
        self._wrapped.stop(timeout=_STOP_S)

    def kill(self) -> None:
        self._wrapped.kill()
        self._wrapped.wait()

    def pause(self) -> None:
        self._wrapped.pause()

    def resume(self) -> None:
        self._wrapped.unpause()

    def log(self) -> str:
        output: bytes = self._wrapped.logs(tail=_LOG_LINES)
        return output.decode(errors="replace")

    def close(self) -> None:
        if self._container is not None:
            self._container.stop()
            self._container = None


def ensure_image(name: str) -> str:
    """Build the server's image where the engine has not this very one; returns its tag.

    Raises `EngineUnavailable`, `EngineRefused`, and `FixThis` where it cannot be built.
    """
    service = SERVICES[name]()
    with open_engine(timeout_s=600.0) as client, tempfile.TemporaryDirectory() as cache:
        ensure_debian(client, Path(cache), _quiet)
        build(client, Context(service.tag, {"BASE": BASE_TAG}, folder_files(_HERE / name)), _quiet)
        leftovers.remove(client)
    return service.tag


def _quiet(text: str) -> None:
    """pytest shows what was printed with the test that failed."""
    print(text)


def _create(service: Service) -> Any:
    from docker.errors import APIError

    for _ in range(_TRIES - 1):
        try:
            return _started(service)
        except APIError as error:
            # somebody else took the port since it was seen to be free
            if "already" not in str(error):
                raise
    return _started(service)


def _started(service: Service) -> Any:
    from testcontainers.core.config import ConnectionMode, testcontainers_config
    from testcontainers.core.container import DockerContainer

    # the reaper is one more image from a registry; `leftovers` does its work
    testcontainers_config.ryuk_disabled = True
    if testcontainers_config.connection_mode_override is None:
        # else a file /.dockerenv on the host is taken for a sign of being in a container
        testcontainers_config.connection_mode_override = ConnectionMode.docker_host
    container = DockerContainer(service.tag).with_kwargs(
        labels=leftovers.labels(),
        # we ask by ourselves whether it answers; RabbitMQ's check starts a virtual machine each time
        healthcheck={"test": ["NONE"]},
    )
    container.with_envs(**service.env)
    container.ports[f"{service.port}/tcp"] = _binding()
    try:
        return container.start()
    except BaseException:
        container.stop()
        raise


def _binding() -> Any:
    """The port has to be named, for an unnamed one changes when the container is started again."""
    if os.environ.get("DOCKER_HOST", "unix:").startswith("unix:"):
        return ("127.0.0.1", free_port())
    return free_port()
