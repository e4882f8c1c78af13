"""Broker servers in containers of their own, and what can happen to such a server."""

from __future__ import annotations

import json
import secrets
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from docker.errors import DockerException

from queue_runner.brokers import connect
from queue_runner.errors import BrokerUnavailable
from queue_runner.images.engine import open_engine
from queue_runner.testing.handle import BrokerServerHandle
from queue_runner.testing.servers.containers import SERVICES, ensure_image
from tests.faults.network import Network, network
from tests.integration.system import eventually

_START_S = 120.0
#: Of a server that nothing is wrong with, on a machine that is busy with other things as well.
_ANSWER_S = 30.0
_STOP_S = 60
_LOG_LINES = 60


class FaultServer(BrokerServerHandle):
    """One server, number `number` of its network. `url` carries no prefix; `part` gives one a test's own."""

    name: str
    port: int
    #: Whether attempt numbers are exact, or an upper bound.
    exact = True
    #: What a container of this server is made with.
    settings: Mapping[str, Any] = {}

    def __init__(self, net: Network, number: int = 0) -> None:
        self._net, self._number = net, number
        self.container: Any = None

    @property
    def image(self) -> str:
        return f"queue-runner/{self.name}:latest"

    @property
    def address(self) -> str:
        return f"{self._net.address(self._number)}:{self.port}"

    def part(self, prefix: str) -> str:
        """The URL of an empty part of this server."""
        return f"{self.url}?prefix={prefix}"

    @contextmanager
    def running(self) -> Iterator[None]:
        with self.created() as self.container:
            self.await_answer()
            yield

    def created(self) -> AbstractContextManager[Any]:
        return self._net.container(self.image, self._number, **self.settings)

    def await_answer(self) -> None:
        try:
            with connect(self.url) as broker:
                broker.server(timeout_s=_START_S)
        except BrokerUnavailable as error:
            raise BrokerUnavailable(f"{error}. The end of its log:\n{self.log()}") from error

    def assert_answers(self) -> None:
        """Where it does not, it is started again: what ended it fails one test, not all after it."""
        try:
            with connect(self.url) as broker:
                broker.server(timeout_s=_ANSWER_S)
        except BrokerUnavailable:
            found = self.described()
            self.container.restart()
            self.await_answer()
            raise AssertionError(
                f"the {self.name} server did not answer any more: {found}"
            ) from None

    # -- faults ------------------------------------------------------------------------------------

    def start(self) -> None:
        self.container.start()
        self.await_answer()

    def stop(self) -> None:
        self.container.stop(timeout=_STOP_S)

    def kill(self) -> None:
        self.container.kill()
        self.container.wait()

    def pause(self) -> None:
        self.container.pause()

    def resume(self) -> None:
        self.container.unpause()
        self.await_answer()

    def cut(self) -> None:
        """Take it from its network: no side is told."""
        self._net.cut(self.container)

    def mend(self) -> None:
        self._net.mend(self.container, self._number)
        self.await_answer()

    @abstractmethod
    def fill(self) -> None:
        """Let it run out of memory or disk, so that it takes no more messages."""

    @abstractmethod
    def make_room(self) -> None:
        """Let it take messages again."""

    # -- what it shows -----------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The process on this host that its container began with; None where it does not run."""
        state = self.container.client.api.inspect_container(self.container.id)["State"]
        return state["Pid"] or None

    def log(self) -> str:
        output: bytes = self.container.logs(tail=_LOG_LINES)
        return output.decode(errors="replace")

    def described(self) -> str:
        """Its container's state and address, and the end of its log."""
        try:
            self.container.reload()
            state = {key: self.container.attrs["State"][key] for key in ("Status", "ExitCode")}
            networks = self.container.attrs["NetworkSettings"]["Networks"]
            return f"{state}, {list(networks.values())}\n{self.log()}"
        except DockerException as error:
            return f"not to be asked: {error}"

    @abstractmethod
    def contents(self, prefix: str) -> Mapping[str, int]:
        """What the server holds under a prefix: the number of messages by a name of the server's own.

        Without what every part of a server has once it was used, and keeps.
        """

    def close(self) -> None:
        """`running` does it."""

    def call(self, *argv: str) -> str:
        """What a command prints, run in the container."""
        code, output = self.container.exec_run(list(argv))
        text: str = output.decode(errors="replace")
        assert code == 0, f"{argv}: {code}\n{text}"
        return text


class RabbitMQ(FaultServer):
    name, port = "rabbitmq", 5672
    exact = False

    def __init__(self, net: Network, number: int = 0) -> None:
        super().__init__(net, number)
        self.password = secrets.token_hex(8)
        self.settings = {
            "environment": {"RABBITMQ_USER": "tests", "RABBITMQ_PASSWORD": self.password},
            "mem_limit": "2g",
        }

    @property
    def url(self) -> str:
        return f"amqp://tests:{self.password}@{self.address}/"

    def fill(self) -> None:
        self.call("rabbitmqctl", "-q", "set_vm_memory_high_watermark", "absolute", "1000")
        self._await_alarm(True)

    def make_room(self) -> None:
        self.call("rabbitmqctl", "-q", "set_vm_memory_high_watermark", "0.6")
        self._await_alarm(False)

    def _await_alarm(self, wanted: bool) -> None:
        def alarmed() -> bool:
            return "memory" in self.call("rabbitmqctl", "-q", "eval", "rabbit_alarm:get_alarms().")

        eventually(lambda: alarmed() is wanted)

    def contents(self, prefix: str) -> Mapping[str, int]:
        """Lanes, dead-letter queues and the catalogue stay; what is in them does not."""
        lines = self.call(
            "rabbitmqctl", "-q", "list_queues", "name", "messages", "--no-table-headers"
        )
        counts = {name: int(count) for name, count in map(str.split, lines.splitlines())}
        kept = (f"{prefix}:lanes", f"{prefix}:lanes:count")
        return {
            name: count
            for name, count in counts.items()
            if name not in kept
            and (name.startswith("amq.gen") or (count and name.startswith(f"{prefix}:")))
        }


class Redis(FaultServer):
    name, port = "redis", 6379

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    def fill(self) -> None:
        self.call("redis-cli", "config", "set", "maxmemory", "1")

    def make_room(self) -> None:
        self.call("redis-cli", "config", "set", "maxmemory", "0")

    def contents(self, prefix: str) -> Mapping[str, int]:
        """The counter of ids stays, and the last wake-up of each queue."""
        keys = self.call("redis-cli", "keys", f"{{{prefix}}}:*").split()
        kept = (f"{{{prefix}}}:seq", f"{{{prefix}}}:w:")
        return {key: 1 for key in keys if not key.startswith(kept)}


_COUNT_ROWS = """
import json, sqlite3, sys
journal = sqlite3.connect("file:/var/lib/queue-runner/broker.sqlite?mode=ro", uri=True)
count = lambda table: journal.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
print(json.dumps({table: count(table) for table in ("message", "lease", "dead")}))
"""


class ZeroMQ(FaultServer):
    name, port = "zeromq", 5670

    @property
    def url(self) -> str:
        return f"zmq+tcp://{self.address}"

    def fill(self) -> None:
        raise NotImplementedError("only a small disk can be filled: SmallZeroMQ")

    def make_room(self) -> None:
        raise NotImplementedError("only a small disk can be filled: SmallZeroMQ")

    def contents(self, prefix: str) -> Mapping[str, int]:
        """Rows of its journal; those of every prefix."""
        rows = json.loads(self.call("python3", "-c", _COUNT_ROWS))
        return {table: count for table, count in rows.items() if count}


class SmallZeroMQ(ZeroMQ):
    """With its journal on a disk of 16 MiB, which is gone when the server ends."""

    settings = {"tmpfs": {"/var/lib/queue-runner": "size=16m,uid=1000,gid=1000,mode=755"}}
    _FILLING = "/var/lib/queue-runner/filling"

    def fill(self) -> None:
        script = f"dd if=/dev/zero of={self._FILLING} bs=4096 || true"
        assert "No space left" in self.call("sh", "-c", script)

    def make_room(self) -> None:
        self.call("rm", self._FILLING)


def named(*names: str) -> list[Any]:
    """Parameters for tests: those of one server run one after the other, in one process."""
    return [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names]


SERVERS: Mapping[str, type[FaultServer]] = {"rabbitmq": RabbitMQ, "redis": Redis, "zeromq": ZeroMQ}


@contextmanager
def fault_server(made: type[FaultServer]) -> Iterator[FaultServer]:
    """A server of your own, answering. Raises `MissingTool`, `EngineUnavailable`."""
    if made.name in SERVICES:
        ensure_image(made.name)
    with open_engine() as client, network(client) as net:
        server = made(net)
        with server.running():
            yield server
