"""What is special about Redis: settings that lose messages, rights, TLS, a full or a frozen server."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import Redis

from queue_runner.brokers import Broker, Dead, Message, Retry, connect
from queue_runner.errors import BrokerRefused, BrokerUnavailable

_CONF = Path(__file__).parents[2] / "brokers" / "redis" / "redis.conf"
_PASSWORD = "p@ss/w:rd"


class Server:
    """A redis-server of one test's own, since the test changes how it is set."""

    def __init__(self, folder: Path, *options: str, conf: bool = True) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = taken.getsockname()[1]
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder)]
        self._command = ["redis-server", *([str(_CONF)] if conf else []), *where, *options]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def tell(self, *command: object) -> object:
        with Redis(port=self.port, protocol=2) as client:
            return client.execute_command(*command)


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    with ExitStack() as stack:

        def start(*options: str, conf: bool = True) -> Server:
            server = Server(tmp_path, *options, conf=conf)
            stack.callback(server.kill)
            return server

        yield start


@pytest.fixture
def server(start_server: Callable[..., Server]) -> Server:
    return start_server()


@pytest.fixture
def broker(server: Server) -> Iterator[Broker]:
    with connect(server.url) as broker:
        yield broker


def test_our_settings_need_no_warning(broker: Broker) -> None:
    info = broker.server()
    assert (info.product, info.warnings) == ("Redis", ())


def test_a_server_that_does_not_persist_is_warned_of(start_server: Callable[..., Server]) -> None:
    with connect(start_server(conf=False).url) as broker:
        (warning,) = broker.server().warnings
    assert "CONFIG SET appendonly yes" in warning


def test_late_fsync_is_warned_of(server: Server, broker: Broker) -> None:
    broker.server()
    server.tell("CONFIG", "SET", "appendfsync", "everysec")
    (warning,) = broker.server().warnings
    assert "CONFIG SET appendfsync always" in warning


def test_an_evicting_server_is_refused(server: Server, broker: Broker) -> None:
    broker.server()
    server.tell("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with connect(server.url) as late, pytest.raises(BrokerRefused, match="noeviction"):
        late.publish([Message("q", b"x")])
    with connect(f"{server.url}?allow_eviction=1") as late:
        late.publish([Message("q", b"x")])
        assert any("noeviction" in warning for warning in late.server().warnings)


def test_a_wrong_password_is_refused_at_once(start_server: Callable[..., Server]) -> None:
    server = start_server("--requirepass", _PASSWORD)
    right = f"redis://:p%40ss%2Fw%3Ard@127.0.0.1:{server.port}/0"
    with connect(right) as broker:
        broker.publish([Message("q", b"x")])
    for url in (server.url, right.replace("ss", "xx")):
        with connect(url) as broker, pytest.raises(BrokerRefused, match="password") as caught:
            broker.depth("q", timeout_s=60.0)
        assert "xx" not in str(caught.value)


def test_a_user_without_rights_is_refused(server: Server, broker: Broker) -> None:
    broker.server()
    server.tell("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read", "+info")
    url = f"redis://reader:secret@127.0.0.1:{server.port}/0"
    with connect(url) as reader, pytest.raises(BrokerRefused):
        reader.publish([Message("q", b"x")])


def test_another_kind_of_server_is_refused(zeromq_url: str) -> None:
    url = f"redis://{urlsplit(zeromq_url).hostname}:{urlsplit(zeromq_url).port}/0"
    with connect(url) as broker, pytest.raises(BrokerRefused, match="no Redis server"):
        broker.depth("q", timeout_s=30.0)


def test_a_full_server_takes_no_more_but_gives(server: Server, broker: Broker) -> None:
    broker.publish([Message("q", bytes(100_000)) for _ in range(20)])
    server.tell("CONFIG", "SET", "maxmemory", "2mb")
    with pytest.raises(BrokerUnavailable, match="out of memory"):
        broker.publish([Message("q", bytes(100_000))], timeout_s=0.3)
    kept, given, buried, *rest = broker.lease(["q"], 20, 5.0)
    assert broker.renew([kept]) == []
    assert broker.settle([kept], [Retry(given)], [Dead(buried, "why")], [Message("r", b"")]) == []
    assert broker.settle(done=rest) == []
    server.tell("CONFIG", "SET", "maxmemory", "100mb")
    broker.publish([Message("q", b"again")])
    assert [d.body[:5] for d in broker.lease(["q"], 5, 5.0)] == [bytes(5), b"again"]


def test_a_server_that_forgot_its_scripts(server: Server, broker: Broker) -> None:
    broker.publish([Message("q", b"x")])
    server.tell("SCRIPT", "FLUSH")
    (held,) = broker.lease(["q"], 1, 5.0)
    server.tell("SCRIPT", "FLUSH")
    assert broker.settle(done=[held]) == []


def test_connections_that_were_cut(server: Server, broker: Broker) -> None:
    with broker.subscribe(["t"]) as listener:
        broker.publish([Message("q", b"x")])
        server.tell("CLIENT", "KILL", "TYPE", "normal")
        server.tell("CLIENT", "KILL", "TYPE", "pubsub")
        (held,) = broker.lease(["q"], 1, 5.0)
        server.tell("CLIENT", "KILL", "TYPE", "normal")
        assert broker.settle(done=[held]) == []
        assert listener.get(1.0) is None
        broker.broadcast("t", b"again")
        assert listener.get(10.0) == ("t", b"again")


def test_nothing_is_lost_while_connections_are_cut(server: Server) -> None:
    total, missing = 3000, set(range(3000))
    stop = threading.Event()

    def cut() -> None:
        while not stop.wait(0.03):
            server.tell("CLIENT", "KILL", "TYPE", "normal")

    def publish() -> None:
        with connect(server.url) as producer:
            for start in range(0, total, 50):
                batch = range(start, start + 50)
                producer.publish([Message("q", b"%d" % number) for number in batch])

    def consume() -> None:
        with connect(server.url) as consumer:
            while missing:
                found = consumer.lease(["q"], 20, 0.5, lease_s=1.0)
                names = [Message("r", delivery.body) for delivery in found]
                consumer.settle(done=found, publish=names)
                missing.difference_update(int(delivery.body) for delivery in found)

    with ThreadPoolExecutor(5) as pool:
        cutter = pool.submit(cut)
        work = [pool.submit(publish), *(pool.submit(consume) for _ in range(3))]
        wait(work, 60)
        stop.set()
        for one in (cutter, *work):
            one.result(10)
    results: set[int] = set()
    with connect(server.url) as reader:
        while found := reader.lease(["r"], 1000, 0.5):
            results.update(int(delivery.body) for delivery in found)
            reader.settle(done=found)
    assert results == set(range(total))


def test_killed_with_sigkill_it_has_all_it_confirmed(server: Server, broker: Broker) -> None:
    broker.publish([Message("q", b"%d" % number) for number in range(3000)])
    held = broker.lease(["q"], 100, 5.0)
    assert broker.settle(done=held) == []
    server.kill()
    server.start()
    left: list[bytes] = []
    while len(left) < 2900:
        found = broker.lease(["q"], 1000, 5.0)
        left += [delivery.body for delivery in found]
        assert broker.settle(done=found) == []
    assert left == [b"%d" % number for number in range(100, 3000)]


def test_a_frozen_server_is_unavailable_and_then_goes_on(server: Server, broker: Broker) -> None:
    broker.publish([Message("q", b"x")])
    server.process.send_signal(signal.SIGSTOP)
    with pytest.raises(BrokerUnavailable):
        broker.depth("q", timeout_s=0.5)
    with pytest.raises(BrokerUnavailable):
        broker.lease(["q"], 1, 0.1, timeout_s=0.5)
    server.process.send_signal(signal.SIGCONT)
    assert broker.depth("q").ready == 1


def test_a_server_that_freezes_while_a_lease_waits(server: Server, broker: Broker) -> None:
    broker.depth("q")
    with ThreadPoolExecutor(1) as pool:
        started = time.monotonic()
        waiting = pool.submit(broker.lease, ["q"], 1, 1.5, timeout_s=0.5)
        time.sleep(0.5)  # nothing outside shows that it waits now
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(BrokerUnavailable):
            waiting.result(30)
        # far below the ten seconds after which an answer is given up without a deadline
        assert time.monotonic() - started < 8.0
    server.process.send_signal(signal.SIGCONT)


def test_nothing_is_left_of_what_was_settled(server: Server, broker: Broker) -> None:
    def turn() -> set[bytes]:
        broker.publish([Message("q", b"x", size=n % 5 + 1, priority=n % 10) for n in range(2000)])
        broker.publish([Message("q", b"x", delay_s=0.001) for _ in range(100)])
        count = 0
        while found := broker.lease(["q"], 700, 0.3):
            count += len(found)
            assert broker.settle(done=found) == []
        assert count == 2100
        keys = server.tell("KEYS", "*")
        assert isinstance(keys, list)
        return set(keys)

    assert turn() == turn() == {b"{qr}:seq", b"{qr}:w:q"}
    assert server.tell("XLEN", "{qr}:w:q") == 1


def test_tls(start_server: Callable[..., Server], tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    into = ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*make, *into, *names], check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    files = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    start_server("--tls-port", str(port), "--tls-auth-clients", "no", *files)
    url = f"rediss://127.0.0.1:{port}/0"
    with connect(f"{url}?ssl_ca_certs={certificate}") as broker:
        broker.publish([Message("q", b"secret")])
        assert [delivery.body for delivery in broker.lease(["q"], 1, 5.0)] == [b"secret"]
    with connect(url) as broker, pytest.raises(BrokerRefused, match="ssl_ca_certs"):
        broker.depth("q")


def test_namespaces_do_not_see_each_other(server: Server, broker: Broker) -> None:
    broker.publish([Message("q", b"x")])
    with connect(f"{server.url}?prefix=other") as other, other.subscribe(["t"]) as listener:
        assert other.lease(["q"], 1, 0.0) == []
        broker.broadcast("t", b"x")
        assert listener.get(0.2) is None


def test_values_that_are_none_of_ours(broker: Broker) -> None:
    with pytest.raises(ValueError):
        broker.lease(["q"], 1, 0.0, max_size=True)
    with pytest.raises(ValueError):
        broker.subscribe([])


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://host/zero",
        "redis://host:port/0",
        "redis://host/-1",
        "redis://host/0?prefx=a",
        "redis://host/0?prefix=a:b",
        "redis://host/0?allow_eviction=yes",
        "redis://host/0?ssl_ca_certs=/ca.pem",
    ],
)
def test_malformed_urls(url: str) -> None:
    with pytest.raises(ValueError):
        connect(url)


def test_renewals_over_a_long_time_leave_nothing_behind(server: Server, broker: Broker) -> None:
    """A claim of days is renewed hundreds of times: neither keys nor what is in them grow by it."""
    broker.publish([Message("q", b"first")])
    broker.settle(done=broker.lease(["q"], 1, 5.0))
    used = _sizes(server)
    broker.publish([Message("q", b"%d" % number) for number in range(20)])
    held = broker.lease(["q"], 20, 5.0, lease_s=30.0)
    assert len(held) == 20
    sizes = []
    for count in (10, 500):
        for _ in range(count):
            assert broker.renew(held, lease_s=30.0) == []
        sizes.append(_sizes(server))
    assert sizes[0] == sizes[1]
    assert broker.settle(done=held) == []
    depth = broker.depth("q")
    assert (depth.ready, depth.delayed, depth.leased, depth.dead) == (0, 0, 0, 0)
    assert _sizes(server) == used


def _sizes(server: Server) -> dict[bytes, int]:
    """Elements or entries of every key; a stream counts what is pending, too."""
    counting = {
        b"zset": "ZCARD",
        b"hash": "HLEN",
        b"list": "LLEN",
        b"set": "SCARD",
        b"stream": "XLEN",
    }
    with Redis(port=server.port, protocol=2) as client:
        sizes = {}
        for key in client.scan_iter():
            kind = client.type(key)
            sizes[key] = (
                1 if kind == b"string" else int(client.execute_command(counting[kind], key))
            )
            if kind == b"stream":
                sizes[key] += sum(group["pending"] for group in client.xinfo_groups(key))
        return sizes
