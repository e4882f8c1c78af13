"""Gives the contract suite its servers: real ones, as processes of this machine, for the session."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from queue_runner.brokers import connect

pytest.register_assert_rewrite("queue_runner.testing.contract")

_READY_S = 30.0


class LocalServer:
    """A server process that is started again with the same command; `url` names the whole of it."""

    def __init__(self, command: Sequence[str], url: str) -> None:
        self._command = command
        self.url = url
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        with connect(self.url) as broker:
            broker.server(timeout_s=_READY_S)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(_READY_S)

    def restart(self) -> None:
        self.stop()
        self.start()


class Namespace:
    """An empty part of a server, for one test."""

    def __init__(self, server: LocalServer) -> None:
        self.url = f"{server.url}?prefix=t{uuid.uuid4().hex[:12]}"
        self.restart = server.restart


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def local_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    program = shutil.which("redis-server")
    assert program, "no redis-server on PATH (on Debian or Ubuntu: apt-get install redis-server)"
    conf = Path(__file__).parents[2] / "brokers" / "redis" / "redis.conf"
    port = str(_free_port())
    where = ["--bind", "127.0.0.1", "--port", port, "--dir", str(tmp_path_factory.mktemp("redis"))]
    server = LocalServer([program, str(conf), *where], f"redis://127.0.0.1:{port}/0")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def local_zeromq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    address = f"tcp://127.0.0.1:{_free_port()}"
    journal = str(tmp_path_factory.mktemp("zeromq") / "journal.db")
    command = [sys.executable, "-m", "queue_runner.brokers.zeromq", "--bind", address]
    server = LocalServer([*command, "--journal", journal], f"zmq+{address}")
    yield server
    server.stop()


@pytest.fixture
def redis_server(local_redis: LocalServer) -> Namespace:
    return Namespace(local_redis)


@pytest.fixture
def redis_url(redis_server: Namespace) -> str:
    return redis_server.url


@pytest.fixture
def zeromq_server(local_zeromq: LocalServer) -> Namespace:
    return Namespace(local_zeromq)


@pytest.fixture
def zeromq_url(zeromq_server: Namespace) -> str:
    return zeromq_server.url
