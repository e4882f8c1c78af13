"""Servers that speak with those only whose keys they know, and a collector with a certificate."""

from __future__ import annotations

import dataclasses
import secrets
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from queue_runner.brokers.zeromq.keys import make_pair
from queue_runner.errors import MissingTool
from queue_runner.testing.servers.local import LocalServer
from queue_runner.testing.servers.ports import free_port
from queue_runner.testing.servers.recipes import Launch, rabbitmq, redis
from tests.integration.system import System, eventually
from tests.integration.tls import Certificates
from tests.requirements import missing

#: Of the servers, where they have one; easy to find wherever it should not be.
PASSWORD = f"not-to-be-shown-{secrets.token_hex(8)}"


@dataclass(frozen=True)
class Secured:
    """A server, `url` without options; `options`: its names for the files of authority, certificate, key."""

    url: str
    options: tuple[str, str, str]
    certificates: Certificates

    def with_files(self, *names: str | None, query: str = "prefix=tls") -> str:
        files = [
            f"&{option}={self.certificates.path(name)}"
            for option, name in zip(self.options, names, strict=False)
            if name is not None
        ]
        return f"{self.url}?{query}{''.join(files)}"

    @property
    def trusted(self) -> str:
        return self.with_files("ca.pem", "client.pem", "client.key")


def _redis(folder: Path, files: Certificates) -> Launch:
    plain = redis(folder)
    port = free_port()
    (folder / "password.conf").write_text(f"requirepass {PASSWORD}\n")
    tls = [
        "--include", str(folder / "password.conf"),
        "--port", "0", "--tls-port", str(port), "--tls-ca-cert-file", files.path("ca.pem"),
        "--tls-cert-file", files.path("server.pem"),
        "--tls-key-file", files.path("server.key"),
        "--tls-auth-clients", "yes",
    ]  # fmt: skip
    return dataclasses.replace(
        plain, server=[*plain.server, *tls], url=f"rediss://:{PASSWORD}@127.0.0.1:{port}/0"
    )


def _rabbitmq(folder: Path, files: Certificates) -> Launch:
    plain = rabbitmq(folder)
    port = int(plain.url.rstrip("/").rpartition(":")[2])
    lines = {
        "default_pass": PASSWORD,
        "listeners.tcp": "none",
        "listeners.ssl.local": f"127.0.0.1:{port}",
        "ssl_options.cacertfile": files.path("ca.pem"),
        "ssl_options.certfile": files.path("server.pem"),
        "ssl_options.keyfile": files.path("server.key"),
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "true",
    }
    text = "".join(f"{name} = {value}\n" for name, value in lines.items())
    (folder / "rabbitmq.conf").write_text(text)
    # it would open a listener of its own, without TLS
    env = {name: value for name, value in plain.env.items() if name != "RABBITMQ_NODE_PORT"}
    url = f"amqps://guest:{PASSWORD}@127.0.0.1:{port}/"
    return dataclasses.replace(plain, env=env, url=url)


#: How to launch it; its names of the options.
KINDS: dict[str, tuple[Callable[[Path, Certificates], Launch], tuple[str, str, str]]] = {
    "redis": (_redis, ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")),
    "rabbitmq": (_rabbitmq, ("cacertfile", "certfile", "keyfile")),
}


def start_secured(stack: ExitStack, kind: str, folder: Path) -> Secured:
    launch, options = KINDS[kind]
    files = Certificates(folder / "certificates")
    (folder / "server").mkdir()
    try:
        told = launch(folder / "server", files)
    except MissingTool as error:
        missing(error)
    secured = Secured(told.url, options, files)
    server = LocalServer(dataclasses.replace(told, url=secured.trusted), folder / "server")
    stack.callback(server.close)
    server.start()
    return secured


def start_curve(stack: ExitStack, folder: Path) -> str:
    """A ZeroMQ server with keys; returns its URL for the one client that it knows, `member`."""
    keys, port = folder / "keys", free_port()
    for name in ("server", "member"):
        make_pair(keys, name)
    (folder / "server").mkdir()
    address = f"127.0.0.1:{port}"
    command = [
        str(Path(sys.executable).with_name("queue-runner")), "broker", "--listen", address,
        "--journal", str(folder / "server/journal"), "--log-level", "debug",
        "--key", str(keys / "server.key"), "--clients", str(keys / "member.pub"),
    ]  # fmt: skip
    files = f"key_file={keys}/member.key&server_key_file={keys}/server.pub"
    launch = Launch(f"zmq+tcp://{address}?{files}", command)
    server = LocalServer(launch, folder / "server")
    stack.callback(server.close)
    server.start()
    return launch.url


class Https(System):
    """A system whose collector serves HTTPS; its commands trust the authority `ca`.

    env: what is otherwise in everybody's environment, None for what is not; options: of the collector.
    """

    def __init__(
        self,
        folder: Path,
        broker: str,
        certificate: str = "server",
        env: Mapping[str, str | None] | None = None,
        *options: str,
    ) -> None:
        super().__init__(folder, broker)
        self.certificates = Certificates(folder / "certificates")
        self.address = f"127.0.0.1:{free_port()}"
        self.env["QUEUE_RUNNER_COLLECTOR"] = f"https://{self.address}"
        self.env["QUEUE_RUNNER_CA_FILE"] = self.certificates.path("ca.pem")
        changes = {"QUEUE_RUNNER_STORE": None, **(env or {})}
        self.env |= {name: value for name, value in changes.items() if value is not None}
        for name in (name for name, value in changes.items() if value is None):
            del self.env[name]
        files = self.certificates
        self.start(
            "collector", "collector", "--listen", self.address,
            "--database", str(folder / "collector.sqlite"), "--store", str(folder / "store"),
            "--tls-cert", files.path(f"{certificate}.pem"),
            "--tls-key", files.path(f"{certificate}.key"), *options,
        )  # fmt: skip
        eventually(self._listens)

    def _listens(self) -> bool:
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            return False
        return True
