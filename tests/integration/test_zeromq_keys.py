"""The ZeroMQ server with keys: who is not let in gets nothing, and is told why."""

from __future__ import annotations

import math
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from queue_runner.brokers import Message, connect
from queue_runner.brokers.zeromq.keys import make_pair
from queue_runner.errors import BrokerRefused, BrokerUnavailable
from queue_runner.testing.servers.ports import free_port
from tests.integration.system import System, eventually


@dataclass(frozen=True)
class Guarded:
    """A server with keys; `system` runs commands beside it."""

    system: System
    port: int

    @property
    def clients(self) -> Path:
        return self.system.folder / "clients"

    def url(self, client: str = "member", server: str = "server", prefix: str = "qr") -> str:
        keys = self.system.folder / "keys"
        files = f"key_file={keys}/{client}.key&server_key_file={keys}/{server}.pub"
        return f"zmq+tcp://127.0.0.1:{self.port}?prefix={prefix}&{files}"

    def admit(self, client: str) -> None:
        public = self.system.folder / "keys" / f"{client}.pub"
        (self.clients / public.name).write_text(public.read_text())

    def start(self) -> None:
        server, keys = f"127.0.0.1:{self.port}", self.system.folder / "keys"
        options = ("--key", f"{keys}/server.key", "--clients", str(self.clients))
        journal = str(self.system.folder / "journal")
        self.system.start("broker", "broker", "--listen", server, "--journal", journal, *options)
        eventually(lambda: _answers(self.port))


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    system = System(tmp_path)
    for name in ("server", "member", "stranger", "impostor"):
        make_pair(tmp_path / "keys", name)
    (tmp_path / "clients").mkdir()
    server = Guarded(system, free_port())
    try:
        server.start()
        yield server
    finally:
        system.stop()


def test_who_has_a_key_comes_in(guarded: Guarded) -> None:
    guarded.admit("member")
    with connect(guarded.url()) as broker:
        broker.publish([Message("q", b"hello")])
        (delivery,) = broker.lease(["q"], 1, 5.0)
        assert delivery.body == b"hello"
        assert broker.settle(done=[delivery]) == []
    done = guarded.system.call("health", "broker", "--broker", guarded.url())
    assert (done.returncode, done.stdout.split()[0]) == (0, "queue-runner")


@pytest.mark.parametrize(
    ("client", "server", "said"),
    [
        ("stranger", "server", "does not know this client's key"),
        ("member", "impostor", "not the one in server_key_file"),
        (None, None, "wants keys"),
    ],
)
def test_others_get_nothing_and_are_told_why(
    guarded: Guarded, client: str | None, server: str | None, said: str
) -> None:
    guarded.admit("member")
    with connect(guarded.url()) as broker:
        broker.publish([Message("q", b"not for you")])
    url = f"zmq+tcp://127.0.0.1:{guarded.port}"
    if client is not None and server is not None:
        url = guarded.url(client, server)
    done = guarded.system.call("health", "broker", "--broker", url)
    assert done.returncode == 4, done.stderr
    assert said in done.stderr
    with connect(url) as broker, pytest.raises(BrokerRefused, match=said):
        broker.lease(["q"], 1, 30.0)
    with connect(guarded.url()) as broker:
        assert broker.depth("q").ready == 1
        assert broker.depth("q").leased == 0


def test_that_it_wants_keys_is_said_at_the_first_try(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libzmq tells of it in one of two ways, as it happens, and does not try again after one of them."""
    monkeypatch.setattr("queue_runner.brokers.zeromq.channel.KNOCK_S", math.inf)
    for _ in range(8):
        with (
            connect(f"zmq+tcp://127.0.0.1:{guarded.port}") as broker,
            pytest.raises(BrokerRefused, match="wants keys"),
        ):
            broker.server()


def test_without_clients_nobody_comes_in(guarded: Guarded) -> None:
    with connect(guarded.url()) as broker, pytest.raises(BrokerRefused, match="does not know"):
        broker.server()
    assert "nobody can come in" in guarded.system.log("broker")
    eventually(lambda: "unknown public key" in guarded.system.log("broker"))


def test_a_key_that_is_added_takes_no_restart_of_either_side(guarded: Guarded) -> None:
    with connect(guarded.url()) as broker:
        with pytest.raises(BrokerRefused, match="does not know"):
            broker.server()
        guarded.admit("member")
        assert broker.server().product == "queue-runner broker"


def test_a_subscriber_comes_back_when_its_key_is_known_to_a_new_server(guarded: Guarded) -> None:
    guarded.admit("member")
    guarded.admit("stranger")
    with connect(guarded.url()) as broker, broker.subscribe(["t"]) as subscription:
        (guarded.clients / "member.pub").unlink()
        guarded.system.daemons["broker"].terminate()
        guarded.system.daemons["broker"].wait()
        guarded.start()
        eventually(lambda: "unknown public key" in guarded.system.log("broker"))
        guarded.admit("member")

        def heard() -> tuple[str, bytes] | None:
            with connect(guarded.url("stranger")) as other:
                other.broadcast("t", b"again")
            return subscription.get(0.5)

        assert eventually(heard) == ("t", b"again")


def test_keys_in_the_url_and_none_at_the_server(tmp_path: Path, zeromq_url: str) -> None:
    for name in ("server", "client"):
        make_pair(tmp_path, name)
    url = f"{zeromq_url}&key_file={tmp_path}/client.key&server_key_file={tmp_path}/server.pub"
    with connect(url) as broker, pytest.raises(BrokerRefused, match="does not use keys"):
        broker.server()


def test_a_server_that_is_away_is_unavailable_and_not_refusing(guarded: Guarded) -> None:
    """What stands before a server that is away may take the connection and hang up, as Docker does."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        closing = threading.Thread(target=_hang_up, args=(proxy,), daemon=True)
        closing.start()
        keys = guarded.url().partition("?")[2]
        url = f"zmq+tcp://127.0.0.1:{proxy.getsockname()[1]}?{keys}"
        with connect(url) as broker, pytest.raises(BrokerUnavailable):
            broker.server(timeout_s=2.0)


def _hang_up(proxy: socket.socket) -> None:
    while True:
        try:
            connection, _ = proxy.accept()
        except OSError:
            return
        connection.close()


def test_nothing_is_readable_on_the_way(guarded: Guarded) -> None:
    guarded.admit("member")
    seen = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as tap:
        threading.Thread(target=_relay, args=(tap, guarded.port, seen), daemon=True).start()
        url = guarded.url().replace(f":{guarded.port}?", f":{tap.getsockname()[1]}?")
        body = os.urandom(8).hex().encode()
        with connect(url) as broker:
            broker.publish([Message("q", body)])
            assert broker.lease(["q"], 1, 5.0)[0].body == body
    assert b"CURVE" in seen
    assert body not in seen


def _relay(tap: socket.socket, port: int, seen: bytearray) -> None:
    client, _ = tap.accept()
    server = socket.create_connection(("127.0.0.1", port))

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        with source, target:
            while piece := source.recv(65536):
                seen.extend(piece)
                target.sendall(piece)

    threading.Thread(target=pass_on, args=(client, server.dup()), daemon=True).start()
    pass_on(server, client.dup())


def test_a_server_without_keys_stays_on_its_machine(tmp_path: Path) -> None:
    done = System(tmp_path).call("broker", "--listen", f"0.0.0.0:{free_port()}")
    assert done.returncode == 2
    assert "--insecure" in done.stderr
    assert "keys curve" in done.stderr


def test_keys_are_made_by_a_command(tmp_path: Path) -> None:
    system = System(tmp_path)
    said = system.ok("keys", "curve", "head")
    secret = (tmp_path / "head.key").read_text().strip()
    assert (tmp_path / "head.key").stat().st_mode & 0o777 == 0o600
    assert secret not in said
    again = system.call("keys", "curve", "head")
    assert again.returncode == 2
    assert "there already" in again.stderr
    assert (tmp_path / "head.key").read_text().strip() == secret


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "cannot read the key file"), ("too short", "line 1: expected a public key")],
)
def test_clients_that_cannot_be_read_are_told_at_the_start(
    tmp_path: Path, text: str | None, said: str
) -> None:
    make_pair(tmp_path, "server")
    clients = tmp_path / "clients"
    if text is not None:
        clients.write_text(text)
    options = ("--key", str(tmp_path / "server.key"), "--clients", str(clients))
    done = System(tmp_path).call("broker", "--listen", f"127.0.0.1:{free_port()}", *options)
    assert done.returncode == 2
    assert said in done.stderr
