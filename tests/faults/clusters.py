"""Broker servers of which there are several: a RabbitMQ cluster, and Redis with a replica and Sentinels.

They are set up as an operator does it, see docs/brokers.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import trustme

from queue_runner.images.engine import open_engine
from queue_runner.testing.servers.containers import ensure_image
from tests.faults.network import Network, network
from tests.faults.servers import FaultServer, RabbitMQ, Redis
from tests.integration.system import eventually

#: Seconds that a server gets to be back in step.
_BACK_S = 180.0
_SERVICE = "queue-runner"
_COOKIE = "/run/secrets/cookie"


class RabbitCluster(RabbitMQ):
    """Three nodes. Quorum queues live while two are there."""

    def __init__(self, net: Network, cookie: Path) -> None:
        super().__init__(net)
        cookie.write_text(secrets.token_hex(16))
        # the container reads it as a user of its own
        cookie.chmod(0o444)
        self._hosts = [net.address(number) for number in range(3)]
        self.nodes = [self._node(number, cookie) for number in range(3)]

    def _node(self, number: int, cookie: Path) -> RabbitMQ:
        node = RabbitMQ(self._net, number)
        names = [f"rabbit@{host}" for host in self._hosts]
        environment = {
            **self.settings["environment"],
            "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_NODENAME": names[number],
            "RABBITMQ_CLUSTER_NODES": " ".join(names),
            "RABBITMQ_ERLANG_COOKIE_FILE": _COOKIE,
        }
        node.settings = {
            "environment": environment,
            "mem_limit": "1g",
            "volumes": {str(cookie): {"bind": _COOKIE, "mode": "ro"}},
            # it starts a virtual machine each time
            "healthcheck": {"test": ["NONE"]},
        }
        node.password = self.password
        return node

    @property
    def url(self) -> str:
        return f"amqp://tests:{self.password}@{','.join(self._hosts)}/"

    @contextmanager
    def running(self) -> Iterator[None]:
        with all_running(self.nodes):
            yield

    def call(self, *argv: str) -> str:
        return self.nodes[0].call(*argv)

    def leader(self, queue: str) -> RabbitMQ:
        """The node that leads a queue."""
        host = self._queues("leader")[queue].partition("@")[2]
        return self.nodes[self._hosts.index(host)]

    def replicas(self, prefix: str) -> Mapping[str, int]:
        """How many running members each queue under a prefix has, also the stream."""
        return {
            name: members.count("rabbit@")
            for name, members in self._queues("online").items()
            if name.startswith(f"{prefix}:")
        }

    def await_in_step(self, prefix: str) -> None:
        eventually(lambda: set(self.replicas(prefix).values()) == {3}, _BACK_S)

    def _queues(self, item: str) -> dict[str, str]:
        told = self.call("rabbitmqctl", "-q", "list_queues", "name", item, "--no-table-headers")
        lines = (line.partition("\t") for line in told.splitlines())
        return {name: rest for name, _, rest in lines}


class Member(Redis):
    """A server that may be a replica, which answers no client of ours; or a Sentinel."""

    def await_answer(self) -> None:
        eventually(lambda: self.container.exec_run("healthy").exit_code == 0, _BACK_S)

    def ask(self, *command: str) -> str:
        reach = ["-s", "/tmp/redis.sock"] if "volumes" in self.settings else ["-p", str(self.port)]
        return self.call("redis-cli", *reach, *command)


class Sentinel(Member):
    port = 26379


class RedisGroup(Redis):
    """A primary, a replica and three Sentinels; with TLS everywhere where it is asked for."""

    def __init__(self, net: Network, folder: Path, *, tls: bool) -> None:
        super().__init__(net)
        self._folder, self._tls, self._password = folder, tls, secrets.token_hex(8)
        (folder / "password").write_text(self._password)
        self.servers = [Member(net, number) for number in range(2)]
        self.sentinels = [Sentinel(net, number) for number in range(2, 5)]
        common = {
            "REDIS_PRIMARY": self.servers[0].address,
            "REDIS_PASSWORD": self._password,
            # of redis-cli, for the tests' own questions
            "REDISCLI_AUTH": self._password,
        }
        for server in self.servers:
            server.settings = {"environment": common | {"REDIS_ADDRESS": server.address}}
        for sentinel in self.sentinels:
            told = {"SENTINEL_ADDRESS": sentinel.address, "SENTINEL_DOWN_AFTER_MS": "3000"}
            sentinel.settings = {"environment": common | told, "command": ["sentinel"]}
        if tls:
            self._encrypt()

    def _encrypt(self) -> None:
        """One certificate for all of them, and for clients."""
        shared = self._folder / "tls"
        shared.mkdir()
        authority = trustme.CA()
        issued = authority.issue_cert(*(self._net.address(number) for number in range(5)))
        authority.cert_pem.write_to_path(str(shared / "ca.pem"))
        issued.cert_chain_pems[0].write_to_path(str(shared / "one.pem"))
        issued.private_key_pem.write_to_path(str(shared / "one.key"))
        files = {"CERT": "one.pem", "KEY": "one.key", "CA": "ca.pem"}
        told = {f"REDIS_TLS_{what}_FILE": f"/run/tls/{name}" for what, name in files.items()}
        for each in (*self.servers, *self.sentinels):
            each.settings = {
                **each.settings,
                "environment": each.settings["environment"] | told,
                "volumes": {str(shared): {"bind": "/run/tls", "mode": "ro"}},
            }

    @property
    def url(self) -> str:
        sentinels = ",".join(each.address for each in self.sentinels)
        scheme = "rediss" if self._tls else "redis"
        return f"{scheme}+sentinel://:{self._password}@{sentinels}/{_SERVICE}/0"

    def part(self, prefix: str) -> str:
        files = {"ca_certs": "ca.pem", "certfile": "one.pem", "keyfile": "one.key"}
        tls = "".join(f"&ssl_{what}={self._folder}/tls/{name}" for what, name in files.items())
        secret = f"&sentinel_password_file={self._folder}/password"
        return super().part(prefix) + secret + (tls if self._tls else "")

    @contextmanager
    def running(self) -> Iterator[None]:
        with all_running([*self.servers, *self.sentinels]):
            self.await_in_step()
            yield

    @property
    def primary(self) -> Member:
        # what a command prints is lost now and then where the engine is busy
        host = eventually(self._primary_address)[0]
        return next(each for each in self.servers if each.address == f"{host}:{each.port}")

    def _primary_address(self) -> list[str]:
        return self.sentinels[0].ask("sentinel", "get-master-addr-by-name", _SERVICE).split()

    @property
    def replica(self) -> Member:
        primary = self.primary
        return next(each for each in self.servers if each is not primary)

    def call(self, *argv: str) -> str:
        return self.primary.call(*argv)

    def await_in_step(self) -> None:
        """The primary has its replica, and each Sentinel knows it and its colleagues."""
        eventually(self._in_step, _BACK_S)

    def _in_step(self) -> bool:
        links = self.primary.ask("info", "replication")
        return "state=online" in links and all(
            "num-slaves 1 " in told and "num-other-sentinels 2 " in told
            for told in map(_seen_by, self.sentinels)
        )

    def await_promoted(self, new: Member) -> None:
        """Every Sentinel takes this one for the primary, and is done with it."""
        host = new.address.partition(":")[0]

        def promoted() -> bool:
            seen = map(_seen_by, self.sentinels)
            return all(f"ip {host} " in told and "flags master " in told for told in seen)

        eventually(promoted, _BACK_S)


def _seen_by(sentinel: Sentinel) -> str:
    return " ".join(sentinel.ask("sentinel", "master", _SERVICE).split()) + " "


@contextmanager
def all_running(servers: Sequence[FaultServer]) -> Iterator[None]:
    """They start at the same time, as after the loss of power."""
    with ExitStack() as stack:
        for each in servers:
            each.container = stack.enter_context(each.created())
        for each in servers:
            each.await_answer()
        yield


@contextmanager
def rabbit_cluster(folder: Path) -> Iterator[RabbitCluster]:
    """`folder`: for its secrets."""
    ensure_image("rabbitmq")
    with open_engine() as client, network(client) as net:
        cluster = RabbitCluster(net, folder / "cookie")
        with cluster.running():
            yield cluster


@contextmanager
def redis_group(folder: Path, *, tls: bool = False) -> Iterator[RedisGroup]:
    """`folder`: for its secrets."""
    ensure_image("redis")
    with open_engine() as client, network(client) as net:
        group = RedisGroup(net, folder, tls=tls)
        with group.running():
            yield group
