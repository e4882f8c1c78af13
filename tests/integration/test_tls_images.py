"""The images of RabbitMQ and Redis with a certificate: TLS only, and only for those who are known."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from queue_runner.brokers import Message, connect
from queue_runner.errors import BrokerRefused
from queue_runner.images.engine import open_engine
from queue_runner.testing.servers import leftovers
from queue_runner.testing.servers.containers import ensure_image
from queue_runner.testing.servers.ports import free_port
from tests.integration.system import eventually
from tests.integration.tls import Certificates

pytestmark = pytest.mark.containers
WITHIN = "/run/tls"


@dataclass(frozen=True)
class Kind:
    """`port`: of TLS; `url`: with places for password and port; `options`: see `Secured` beside this."""

    name: str
    port: int
    url: str
    options: tuple[str, str, str]


KINDS = (
    Kind(
        "redis",
        6379,
        "rediss://:{}@127.0.0.1:{}/0",
        ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"),
    ),
    Kind(
        "rabbitmq",
        5671,
        "amqps://queue-runner:{}@127.0.0.1:{}/",
        ("cacertfile", "certfile", "keyfile"),
    ),
)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    asked: Kind = request.param
    ensure_image(asked.name)
    return asked


@pytest.fixture
def engine() -> Iterator[DockerClient]:
    with open_engine(timeout_s=120.0) as client:
        yield client


@dataclass(frozen=True)
class Server:
    container: Any
    url: str
    kind: Kind
    certificates: Certificates

    def as_client(self, *names: str) -> str:
        """Its URL with files of authority, certificate and key."""
        files = [
            f"{option}={self.certificates.path(name)}"
            for option, name in zip(self.kind.options, names, strict=False)
        ]
        return f"{self.url}?{'&'.join(files)}"

    def is_healthy(self) -> bool:
        self.container.reload()
        return bool(self.container.attrs["State"]["Health"]["Status"] == "healthy")


def _environment(kind: Kind, *names: str) -> dict[str, str]:
    variables = [f"{kind.name.upper()}_TLS_{what}_FILE" for what in ("CERT", "KEY", "CA")]
    files = dict(zip(variables, (f"{WITHIN}/{name}" for name in names), strict=False))
    return {**files, f"{kind.name.upper()}_PASSWORD_FILE": f"{WITHIN}/password"}


def _serve(engine: DockerClient, kind: Kind, folder: Path, *names: str) -> Server:
    certificates = Certificates(folder / "certificates")
    password = secrets.token_hex(8)
    (certificates.folder / "password").write_text(password)
    port = free_port()
    container = engine.containers.run(
        f"queue-runner/{kind.name}:latest",
        detach=True,
        environment=_environment(kind, *names),
        volumes={str(certificates.folder): {"bind": WITHIN, "mode": "ro"}},
        ports={f"{kind.port}/tcp": ("127.0.0.1", port)},
        labels=leftovers.labels(),
    )
    return Server(container, kind.url.format(password, port), kind, certificates)


@pytest.fixture(params=[True, False], ids=["clients with certificates", "clients without"])
def asks(request: pytest.FixtureRequest) -> bool:
    """Whether the server asks its clients for certificates."""
    return bool(request.param)


@pytest.fixture
def server(engine: DockerClient, kind: Kind, asks: bool, tmp_path: Path) -> Iterator[Server]:
    files = ("server.pem", "server.key", "ca.pem") if asks else ("server.pem", "server.key")
    started = _serve(engine, kind, tmp_path, *files)
    try:
        yield started
    finally:
        started.container.remove(force=True, v=True)


def test_it_speaks_tls_only_and_with_whom_it_knows(server: Server, asks: bool) -> None:
    known = server.as_client("ca.pem", "client.pem", "client.key")
    with connect(known if asks else server.as_client("ca.pem")) as broker:
        broker.server(timeout_s=120.0)
        broker.publish([Message("q", b"hello")])
        (delivery,) = broker.lease(["q"], 1, 20.0)
        assert delivery.body == b"hello"
        assert broker.settle(done=[delivery]) == []
    plain = server.url.replace("rediss:", "redis:").replace("amqps:", "amqp:")
    refused = {plain: "speaks TLS only"}
    if asks:
        refused[server.as_client("ca.pem")] = "does not accept this client's certificate"
    for url, said in refused.items():
        with connect(url) as broker, pytest.raises(BrokerRefused, match=said):
            broker.server(timeout_s=30.0)
    eventually(server.is_healthy, within_s=120)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("server.pem",), "TLS_KEY_FILE= cannot be read"),
        (("server.pem", "nowhere.key"), "TLS_KEY_FILE=/run/tls/nowhere.key cannot be read by"),
        (("server.pem", "server.key", "nowhere.pem"), "TLS_CA_FILE=/run/tls/nowhere.pem cannot"),
        (("server.pem", "a key"), "TLS_KEY_FILE may hold"),
    ],
)
def test_a_file_that_it_cannot_use_is_named(
    engine: DockerClient, kind: Kind, files: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    container = _serve(engine, kind, tmp_path, *files).container
    try:
        assert container.wait()["StatusCode"] == 64
        assert said in container.logs().decode()
    finally:
        container.remove(force=True)
