"""Redis with a replica and Sentinels: the contract on it, failovers, and what they can lose."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError

from queue_runner.brokers import Broker, Message, connect
from queue_runner.errors import BrokerRefused, BrokerUnavailable
from queue_runner.testing.contract import BrokerContract
from queue_runner.testing.contract.bench import PATIENCE_S, eventually, in_thread, message, take
from queue_runner.testing.servers.ports import free_port
from queue_runner.testing.servers.recipes import program

pytestmark = pytest.mark.timeout(900)

_CONF = (Path(__file__).parents[2] / "brokers" / "redis" / "redis.conf").read_text()
_SERVICE = "lab"
#: Seconds; Sentinels look at some things every ten seconds only, and at nothing for half a minute where
#: the machine was too busy for them.
_FAILOVER_S = 150.0
_PATIENCE = ("down-after-milliseconds", "1000", "failover-timeout", "4000")


class Process:
    """A redis-server that is a server or, with that option, a Sentinel."""

    def __init__(self, folder: Path, conf: str, *options: str) -> None:
        self.port = free_port()
        folder.mkdir()
        file = folder / "redis.conf"
        file.write_text(f"{conf}\nbind 127.0.0.1\nport {self.port}\ndir {folder}\n")
        self._command = [program("redis-server", "redis-server"), str(file), *options]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def revive(self) -> None:
        """Start it where a test has left it dead."""
        if self._process.poll() is not None:
            self.start()

    def tell(self, *command: object) -> Any:
        with Redis(port=self.port, protocol=2, socket_timeout=10) as client:
            return client.execute_command(*command)

    def role(self) -> bytes | None:
        try:
            answer = self.tell("ROLE")
        except ConnectionError:
            return None
        return bytes(answer[0])


class Group:
    """A primary, a replica and three Sentinels, which take a server for dead after a second."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        def start(name: str, conf: str, *options: str) -> Process:
            process = Process(folder / name, conf, *options)
            stack.callback(process.kill)
            return process

        first = start("first", _CONF)
        eventually(lambda: first.role() == b"master")
        self.servers = [first, start("second", f"{_CONF}\nreplicaof 127.0.0.1 {first.port}")]
        self.watch = f"sentinel monitor {_SERVICE} 127.0.0.1 {first.port} 2\n" + "".join(
            f"sentinel {name} {_SERVICE} {value}\n"
            for name, value in zip(_PATIENCE[::2], _PATIENCE[1::2], strict=True)
        )
        self.sentinels = [start(f"sentinel{n}", self.watch, "--sentinel") for n in range(3)]
        self.settle()

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/{_SERVICE}/0"

    @property
    def primary(self) -> Process:
        port = _primary_port(self.sentinels[0])
        return next(each for each in self.servers if each.port == port)

    @property
    def replica(self) -> Process:
        return next(each for each in self.servers if each is not self.primary)

    def settle(self) -> None:
        """Returns when the replica is in step, and all Sentinels agree and know each other and it:
        a replica they have not heard of when its primary dies never takes its place."""
        eventually(self._in_step, _FAILOVER_S)

    def _in_step(self) -> bool:
        primary, replica = self.primary, self.replica
        if primary.role() != b"master" or replica.role() != b"slave":
            return False
        linked = replica.tell("INFO", "replication").get("master_link_status") == "up"
        return linked and all(
            _is_led_by(primary, each) and _knows_all(each) for each in self.sentinels
        )

    def fail_over(self) -> None:
        """Kill the primary, and start it again when its replica has its place."""
        old = self.primary
        old.kill()
        self.await_another(old)
        self.bring_back(old)

    def await_another(self, old: Process) -> None:
        """Returns when the replica of `old` has its place, and all Sentinels are done with that."""
        new = next(each for each in self.servers if each is not old)
        eventually(lambda: all(_is_led_by(new, each) for each in self.sentinels), _FAILOVER_S)

    def bring_back(self, old: Process) -> None:
        old.start()
        eventually(lambda: old.role() is not None)
        # the Sentinels would do it in about ten seconds
        old.tell("REPLICAOF", "127.0.0.1", self.primary.port)
        self.settle()

    def switch(self) -> None:
        """Change places as an operator does who cuts no connections."""
        old, new = self.primary, self.replica
        for each in self.sentinels:
            each.tell("SENTINEL", "REMOVE", _SERVICE)
        new.tell("REPLICAOF", "NO", "ONE")
        old.tell("REPLICAOF", "127.0.0.1", new.port)
        for each in self.sentinels:
            each.tell("SENTINEL", "MONITOR", _SERVICE, "127.0.0.1", new.port, 2)
            each.tell("SENTINEL", "SET", _SERVICE, *_PATIENCE)


def _primary_port(sentinel: Process) -> int:
    return int(sentinel.tell("SENTINEL", "GET-MASTER-ADDR-BY-NAME", _SERVICE)[1])


def _is_led_by(server: Process, sentinel: Process) -> bool:
    said = _primary_as_seen(sentinel)
    return (int(said[b"port"]), said[b"flags"]) == (server.port, b"master")


def _knows_all(sentinel: Process) -> bool:
    """Whether it has seen the replica and its two colleagues."""
    said = _primary_as_seen(sentinel)
    return (int(said[b"num-slaves"]), int(said[b"num-other-sentinels"])) == (1, 2)


def _primary_as_seen(sentinel: Process) -> dict[bytes, bytes]:
    answer = sentinel.tell("SENTINEL", "MASTER", _SERVICE)
    return dict(zip(answer[::2], answer[1::2], strict=True))


@pytest.fixture(scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with ExitStack() as stack:
        yield Group(tmp_path_factory.mktemp("redis"), stack)


@pytest.fixture
def group(_group: Group) -> Iterator[Group]:
    yield _group
    for each in _group.servers:
        each.revive()
        each.thaw()
    _group.settle()
    _group.primary.tell("FLUSHALL")


class TestRedisBySentinel(BrokerContract):
    """What is confirmed here is on two servers."""

    @pytest.fixture
    def broker_url(self, group: Group) -> str:
        return f"{group.url}?wait_replicas=1"


def test_it_follows_the_primary(group: Group) -> None:
    with connect(group.url) as broker, broker.subscribe(["t"]) as subscription:
        for turn in range(2):
            waiting = in_thread(lambda: broker.lease(["q"], 1, PATIENCE_S))
            group.fail_over()
            broker.publish([Message("q", b"%d" % turn)])
            (found,) = waiting.result(2 * PATIENCE_S)
            assert found.body == b"%d" % turn
            assert broker.settle(done=[found]) == []
            assert eventually(lambda: broker.broadcast("t", b"x") or subscription.get(0.2))


def test_idle_connections_to_a_former_primary_are_given_up(group: Group) -> None:
    with connect(group.url) as broker:
        waiting = [in_thread(lambda: broker.lease(["q"], 1, 0.5)) for _ in range(20)]
        assert [one.result(PATIENCE_S) for one in waiting] == [[]] * 20
        group.switch()
        broker.publish([Message("q", b"x")], timeout_s=5.0)
        assert len(broker.lease(["q"], 1, PATIENCE_S)) == 1


def test_what_is_confirmed_by_a_replica_survives_every_failover(group: Group) -> None:
    confirmed: set[str] = set()
    with connect(f"{group.url}?wait_replicas=1") as broker:
        for turn in range(3):
            texts = {f"{100 * turn + number}" for number in range(100)}
            broker.publish([message(text) for text in texts])
            confirmed |= texts
            group.fail_over()
        found = take(broker, len(confirmed))
    assert {each.body.decode() for each in found} == confirmed


def test_without_a_replica_nothing_is_confirmed(group: Group) -> None:
    with connect(f"{group.url}?wait_replicas=1") as broker:
        broker.publish([message("before")])
        (held,) = broker.lease(["jobs"], 1, PATIENCE_S)
        group.replica.freeze()
        with pytest.raises(BrokerUnavailable, match="0 of 1 replicas"):
            broker.publish([message("x")], timeout_s=1.0)
        with pytest.raises(BrokerUnavailable, match="0 of 1 replicas"):
            broker.settle(done=[held], timeout_s=1.0)


def test_what_only_the_primary_has_is_lost_with_it(group: Group) -> None:
    """What Redis is; docs/guarantees.md says so, and `wait_replicas` is against it."""
    with connect(group.url) as broker:
        old, replica = group.primary, group.replica
        replica.freeze()
        # more than what the kernel holds of it for the replica
        broker.publish([Message("q", bytes(1024 * 1024))] * 64)
        old.kill()
        replica.thaw()
        group.await_another(old)
        assert broker.depth("q").ready < 64
        group.bring_back(old)


def test_a_receipt_from_before_a_loss_means_nothing_after_it(group: Group) -> None:
    with connect(group.url) as broker:
        broker.publish([Message("q", b"lost")])
        before = broker.lease(["q"], 1, PATIENCE_S)
        group.primary.tell("FLUSHALL")
        broker.publish([Message("q", b"new")])
        after = broker.lease(["q"], 1, PATIENCE_S)
        assert broker.renew(before) == before
        assert broker.settle(done=before) == before
        assert broker.depth("q").leased == 1
        assert broker.settle(done=after) == []


def test_an_unknown_service_is_refused_at_once(group: Group) -> None:
    with (
        connect(group.url.replace(f"/{_SERVICE}/", "/other/")) as broker,
        pytest.raises(BrokerRefused, match="sentinel monitor"),
    ):
        broker.depth("q", timeout_s=60.0)


def test_a_wrong_password_for_the_sentinels_is_refused_at_once(
    group: Group, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    for each in group.sentinels:
        each.tell("ACL", "SETUSER", "client", "on", ">right", "+@all")
    url = f"{group.url}?sentinel_username=client&sentinel_password_file={secret}"
    secret.write_text("right\n")
    with connect(url) as broker:
        broker.publish([message("x")])
    secret.write_text("mistaken")
    with connect(url) as broker, pytest.raises(BrokerRefused, match="password") as caught:
        broker.depth("q", timeout_s=60.0)
    assert "mistaken" not in str(caught.value)
    secret.unlink()
    with pytest.raises(BrokerRefused, match="sentinel_password_file"):
        connect(url)


def warnings(broker: Broker, count: int) -> tuple[str, ...]:
    """Once there are so many: what the test before has done may still be seen by the Sentinels."""

    def told() -> list[tuple[str, ...]]:
        found = broker.server().warnings
        return [found] if len(found) == count else []

    return eventually(told)[0]


def test_what_is_warned_of(group: Group) -> None:
    with connect(group.url) as broker:
        asynchronous, cut_off = warnings(broker, 2)
        assert "?wait_replicas=1" in asynchronous
        assert "min-replicas-to-write 1" in cut_off
    for each in group.servers:
        each.tell("CONFIG", "SET", "min-replicas-to-write", "1")
    try:
        with connect(f"{group.url}?wait_replicas=1") as broker:
            assert warnings(broker, 0) == ()
        with connect(f"{group.url}?wait_replicas=2") as broker:
            (too_many,) = warnings(broker, 1)
            assert "1 are connected" in too_many
        for each in group.sentinels[1:]:
            each.freeze()
        with connect(f"{group.url}?wait_replicas=1") as broker:
            (doubt,) = warnings(broker, 1)
            assert "NOQUORUM" in doubt
    finally:
        for each in group.sentinels:
            each.thaw()
        for each in group.servers:
            each.tell("CONFIG", "SET", "min-replicas-to-write", "0")


def test_a_cut_off_primary_takes_nothing_where_it_is_told_so(group: Group) -> None:
    group.primary.tell("CONFIG", "SET", "min-replicas-to-write", "1")
    group.primary.tell("CONFIG", "SET", "min-replicas-max-lag", "1")
    group.replica.freeze()
    try:
        with connect(group.url) as broker:
            eventually(lambda: not _publishes(broker))
            with pytest.raises(BrokerUnavailable, match="min-replicas-to-write"):
                broker.publish([message("x")], timeout_s=0.5)
    finally:
        group.primary.tell("CONFIG", "SET", "min-replicas-to-write", "0")


def _publishes(broker: Broker) -> bool:
    try:
        broker.publish([message("x")], timeout_s=0.5)
    except BrokerUnavailable:
        return False
    return True
