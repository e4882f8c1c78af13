"""What is special about RabbitMQ: consumer_timeout, alarms, rights, TLS, a frozen or killed server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import pytest

from queue_runner.brokers import Broker, Dead, Message, Retry, connect
from queue_runner.errors import BrokerRefused, BrokerUnavailable
from queue_runner.testing.contract.bench import PATIENCE_S, eventually
from queue_runner.testing.servers.local import LocalServer
from queue_runner.testing.servers.ports import free_port
from queue_runner.testing.servers.recipes import program, rabbitmq

pytestmark = pytest.mark.xdist_group("rabbitmq nodes")
OUTER = Path(__file__).parents[2] / "brokers" / "rabbitmq"


class Node:
    """A RabbitMQ of a test's own, since the test changes how it is set."""

    def __init__(self, folder: Path, conf: str = "") -> None:
        self.launch = rabbitmq(folder)
        self._conf = folder / "rabbitmq.conf"
        self._conf.write_text(self._conf.read_text() + conf)
        self.server = LocalServer(self.launch, folder)
        self.url = self.launch.url

    def tell(self, *command: str) -> str:
        """Run rabbitmqctl."""
        ctl = program("rabbitmqctl", "rabbitmq-server", "/usr/lib/rabbitmq/bin")
        done = subprocess.run(
            [ctl, "--silent", *command],
            env=os.environ | self.launch.env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def start_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Node]]:
    with ExitStack() as stack:

        def start(conf: str = "") -> Node:
            node = Node(tmp_path_factory.mktemp("node"), conf)
            stack.callback(node.server.close)
            node.server.start()
            return node

        yield start


@pytest.fixture(scope="module")
def node(start_node: Callable[..., Node]) -> Node:
    return start_node()


@pytest.fixture
def url(node: Node, request: pytest.FixtureRequest) -> str:
    name = re.sub(r"[^a-z_]", "-", request.node.name)[:60]
    return f"{node.url}?prefix={name}"


@pytest.fixture
def broker(url: str) -> Iterator[Broker]:
    with connect(url) as broker:
        yield broker


@pytest.fixture(scope="module")
def hasty(start_node: Callable[..., Node]) -> Node:
    """Takes back what is not acknowledged within three seconds."""
    node = start_node("consumer_timeout = 3000\n")
    # it looks only once a minute, and the configuration file has no key for that
    node.tell("eval", "application:set_env(rabbit, channel_tick_interval, 500).")
    return node


def hold(broker: Broker, for_s: float) -> tuple[bool, Broker]:
    broker.publish([Message("q", b"long")])
    (held,) = broker.lease(["q"], 1, PATIENCE_S)
    end = time.monotonic() + for_s
    lost = False
    while time.monotonic() < end and not lost:
        time.sleep(0.2)  # what is tested is the passing of time
        lost = broker.renew([held]) == [held]
    if not lost:
        assert broker.settle(done=[held], publish=[Message("r", b"result")]) == []
        assert broker.lease(["q"], 1, 0.5) == []
    return lost, broker


def test_a_job_longer_than_consumer_timeout_keeps_its_claim(hasty: Node) -> None:
    with connect(f"{hasty.url}?prefix=kept&hold_s=1") as broker:
        lost, _ = hold(broker, for_s=10.0)
        assert not lost
        assert [d.body for d in broker.lease(["r"], 1, PATIENCE_S)] == [b"result"]


def test_where_the_server_takes_a_job_away_renew_says_so(hasty: Node) -> None:
    with connect(f"{hasty.url}?prefix=lost&hold_s=600") as broker:
        lost, _ = hold(broker, for_s=60.0)
        assert lost
        (again,) = broker.lease(["q"], 1, PATIENCE_S)
        assert (again.body, again.attempt) == (b"long", 2)
        assert broker.settle(done=[again]) == []


def test_what_a_killed_process_held_for_long_comes_back(hasty: Node) -> None:
    url = f"{hasty.url}?prefix=killed&hold_s=1"
    with connect(url) as broker:
        broker.publish([Message("q", b"%d" % number) for number in range(5)])
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            assert broker.lease(["q"], 5, 0.5) == []
            holder.kill()
        back: dict[bytes, int] = {}
        while len(back) < 5:
            found = broker.lease(["q"], 5, PATIENCE_S)
            assert found, f"only {back} came back"
            back |= {delivery.body: delivery.attempt for delivery in found}
            assert broker.settle(done=found) == []
        assert back == {b"%d" % number: 2 for number in range(5)}


HOLDER = """
import sys, time
from queue_runner.brokers import connect
with connect(sys.argv[1]) as broker:
    held = []
    while len(held) < 5:
        held += broker.lease(["q"], 5 - len(held), 30.0)
    end = time.monotonic() + 6.0
    while time.monotonic() < end:
        time.sleep(0.2)
        assert broker.renew(held) == []
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_short_memory_blocks_publishers_and_nobody_else(node: Node, broker: Broker) -> None:
    broker.publish([Message("q", b"%d" % number) for number in range(4)])
    held = broker.lease(["q"], 2, PATIENCE_S)
    limit = "0.000001"
    node.tell("set_vm_memory_high_watermark", limit)
    try:
        with pytest.raises(BrokerUnavailable, match=r"takes no messages.*memory"):
            broker.publish([Message("q", b"more")], timeout_s=3.0)
        assert broker.renew(held) == []
        assert broker.settle(done=held) == []
        assert len(broker.lease(["q"], 2, PATIENCE_S)) == 2
    finally:
        node.tell("set_vm_memory_high_watermark", "0.4")
    broker.publish([Message("q", b"again")])


def test_a_frozen_server_is_unavailable_and_then_goes_on(node: Node, broker: Broker) -> None:
    broker.publish([Message("q", b"one")])
    node.server.pause()
    try:
        with pytest.raises(BrokerUnavailable):
            broker.depth("q", timeout_s=0.5)
        with pytest.raises(BrokerUnavailable):
            broker.publish([Message("q", b"two")], timeout_s=0.5)
        with pytest.raises(BrokerUnavailable):
            broker.lease(["q"], 1, 0.1, timeout_s=0.5)
    finally:
        node.server.resume()
    seen: set[bytes] = set()
    while b"one" not in seen:  # "two" may have been stored, or not
        found = broker.lease(["q"], 2, PATIENCE_S)
        assert found
        seen |= {delivery.body for delivery in found}
        assert broker.settle(done=found) == []


def test_closing_while_the_server_is_frozen(node: Node, url: str) -> None:
    broker = connect(url)
    broker.publish([Message("q", b"one")])
    broker.lease(["q"], 1, PATIENCE_S)
    node.server.pause()
    try:
        broker.close()
    finally:
        node.server.resume()
    with connect(url) as other:
        assert [d.attempt for d in other.lease(["q"], 1, PATIENCE_S)] == [2]


def test_killed_with_sigkill_it_has_all_it_confirmed(node: Node, broker: Broker) -> None:
    broker.publish([Message("q", b"%d" % number) for number in range(1999)])
    done = broker.lease(["q"], 100, PATIENCE_S)
    assert broker.settle(done=done) == []
    # acknowledgements are never confirmed, but stand in the queue's log before this, which is
    broker.publish([Message("q", b"1999")])
    node.server.kill()
    node.server.start()
    left: set[bytes] = set()
    while len(left) < 2000 - len(done):
        found = broker.lease(["q"], 500, PATIENCE_S)
        assert found, f"{len(left)} came, then nothing"
        left |= {delivery.body for delivery in found}
        assert broker.settle(done=found) == []
    assert left == {b"%d" % number for number in range(2000)} - {each.body for each in done}


def test_nothing_is_lost_while_connections_are_cut(node: Node, url: str) -> None:
    total, missing = 2000, set(range(2000))

    def publish() -> None:
        with connect(url) as producer:
            for start in range(0, total, 50):
                batch = range(start, start + 50)
                producer.publish([Message("q", b"%d" % n, size=n % 3 + 1) for n in batch])

    def consume() -> None:
        with connect(url) as consumer:
            while missing:
                found = consumer.lease(["q"], 20, 0.5)
                results = [Message("r", delivery.body) for delivery in found]
                consumer.settle(done=found, publish=results)
                missing.difference_update(int(delivery.body) for delivery in found)

    with ThreadPoolExecutor(3) as pool:
        work = [pool.submit(publish), *(pool.submit(consume) for _ in range(2))]
        for _ in range(4):
            node.tell("close_all_connections", "a test cuts them")
        wait(work, 60)
        for one in work:
            one.result(10)
    results: set[int] = set()
    with connect(url) as reader:
        while len(results) < total:
            found = reader.lease(["r"], 500, PATIENCE_S)
            assert found, f"{len(results)} of {total} results, then nothing"
            results.update(int(delivery.body) for delivery in found)
            assert reader.settle(done=found) == []
    assert results == set(range(total))


def test_a_queue_deleted_by_hand_is_made_again(node: Node, url: str, broker: Broker) -> None:
    broker.publish([Message("q", b"gone")])
    held = broker.lease(["q"], 1, PATIENCE_S)
    prefix = url.partition("prefix=")[2]
    node.tell("delete_queue", f"{prefix}:q:p0:s1")
    assert broker.renew(held) in ([], held)
    broker.publish([Message("q", b"new")])
    assert [d.body for d in broker.lease(["q"], 1, PATIENCE_S)] == [b"new"]


def test_a_surplus_goes_back_and_counts_once_at_most(url: str, broker: Broker) -> None:
    for priority in (0, 1):
        broker.publish([Message("q", b"first", priority=priority)])
    assert broker.settle(done=broker.lease(["q"], 2, PATIENCE_S)) == []
    with ThreadPoolExecutor(1) as pool, connect(url) as other:
        for _ in range(5):
            waiting = pool.submit(broker.lease, ["q"], 1, PATIENCE_S)
            other.publish([Message("q", b"x", priority=n % 2) for n in range(4)])
            taken = waiting.result(2 * PATIENCE_S)
            assert len(taken) == 1
            assert broker.settle(done=taken) == []
            rest = 3
            while rest:
                found = other.lease(["q"], rest, PATIENCE_S)
                # when two lanes answer a waiting call at once, the server may have counted one of
                # them before its consumer was closed: an attempt is an upper bound
                assert {delivery.attempt for delivery in found} <= {1, 2}
                assert other.settle(done=found) == []
                rest -= len(found)


def test_nothing_is_left_of_what_was_settled(node: Node, url: str, broker: Broker) -> None:
    broker.publish([Message("q", b"x", size=n % 2 + 1, delay_s=n % 2) for n in range(100)])
    count = 0
    while count < 100:
        found = broker.lease(["q"], 30, PATIENCE_S)
        assert found
        half = len(found) // 2
        back = [Retry(delivery, counted=False) for delivery in found[:half]]
        assert broker.settle(done=found[half:], retry=back) == []
        count += len(found) - half
    prefix = url.partition("prefix=")[2]

    def holding() -> list[str]:
        rows = node.tell("list_queues", "--no-table-headers", "name", "messages").splitlines()
        ours = [row.split("\t") for row in rows if row.startswith(prefix)]
        return [name for name, messages in ours if int(messages)]

    # the catalogue: its records stay
    eventually(lambda: sorted(holding()) in ([f"{prefix}:lanes", f"{prefix}:lanes:count"],) or None)


def test_a_wrong_password_is_refused_at_once(node: Node) -> None:
    wrong = node.url.replace("guest:guest", "guest:s3cret")
    with connect(wrong) as broker, pytest.raises(BrokerRefused, match="password") as caught:
        broker.depth("q", timeout_s=60.0)
    assert "s3cret" not in str(caught.value)


def test_nodes_that_are_gone_are_passed_over(node: Node) -> None:
    here = node.url.removeprefix("amqp://guest:guest@").rstrip("/")
    url = (
        f"amqp://guest:guest@127.0.0.1:{free_port()},{here},127.0.0.1:{free_port()}/?prefix=passed"
    )
    with connect(url) as broker:
        broker.publish([Message("q", b"before")])
        node.tell("close_all_connections", "a test cuts them")
        broker.publish([Message("q", b"after")])
        found = {d.body for _ in range(2) for d in broker.lease(["q"], 1, PATIENCE_S)}
    assert found == {b"before", b"after"}


def test_of_several_nodes_none_answers(node: Node) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{free_port()},127.0.0.1:{free_port()}/"
    with connect(url) as broker, pytest.raises(BrokerUnavailable, match="refused"):
        broker.server(timeout_s=1.0)


def test_a_missing_virtual_host_is_refused_at_once(node: Node) -> None:
    with connect(f"{node.url}nowhere") as broker, pytest.raises(BrokerRefused, match="nowhere"):
        broker.depth("q", timeout_s=60.0)


def test_a_user_without_rights_is_refused(node: Node) -> None:
    node.tell("add_user", "reader", "pw")
    node.tell("set_permissions", "reader", "^$", "^$", ".*")
    with connect(node.url.replace("guest:guest", "reader:pw")) as reader:
        for call in (
            lambda: reader.publish([Message("q", b"x")], timeout_s=60.0),
            lambda: reader.lease(["q"], 1, 0.0, timeout_s=60.0),
            lambda: reader.subscribe(["t"], timeout_s=60.0),
        ):
            with pytest.raises(BrokerRefused, match="Grant"):
                call()


def test_the_documented_rights_are_enough(node: Node) -> None:
    node.tell("add_user", "worker", "pw")
    names = r"^(mine:|amq\.gen)"
    node.tell("set_permissions", "worker", names, r"^(mine:|amq\.gen|amq\.default$)", names)
    url = node.url.replace("guest:guest", "worker:pw") + "?prefix=mine"
    with connect(url) as broker, broker.subscribe(["t"]) as listener:
        broker.publish([Message("q", b"now"), Message("q", b"late", delay_s=0.5)])
        (held,) = broker.lease(["q"], 1, PATIENCE_S)
        assert broker.settle(dead=[Dead(held, "why")]) == []
        assert broker.replay("q") == 1
        seen: list[bytes] = []
        while len(seen) < 2:
            found = broker.lease(["q"], 2, PATIENCE_S)
            assert found
            seen += [delivery.body for delivery in found]
            assert broker.settle(done=found) == []
        assert sorted(seen) == [b"late", b"now"]
        broker.broadcast("t", b"hello")
        assert listener.get(PATIENCE_S) == ("t", b"hello")


def test_something_else_of_that_name_is_refused(node: Node, url: str, broker: Broker) -> None:
    name = f"{url.partition('prefix=')[2]}:q:p0:s1"
    make = f'rabbit_amqqueue:declare({{resource,<<"/">>,queue,<<"{name}">>}},true,false,[],none,<<"t">>).'
    node.tell("eval", make)
    with pytest.raises(BrokerRefused, match="other settings"):
        broker.publish([Message("q", b"x")], timeout_s=60.0)


def test_prefixes_do_not_see_each_other(url: str, broker: Broker) -> None:
    broker.publish([Message("q", b"x")])
    with connect(f"{url}-other") as other, other.subscribe(["t"]) as listener:
        assert other.lease(["q"], 1, 0.0) == []
        broker.broadcast("t", b"x")
        assert listener.get(0.3) is None


def test_what_it_says_of_the_server(node: Node, broker: Broker) -> None:
    info = broker.server()
    assert info.product == "RabbitMQ"
    assert info.version[0].isdigit()
    (warning,) = info.warnings
    assert "consumer_timeout" in warning
    assert "hold_s" in warning


def test_tls(start_node: Callable[..., Node], tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    into = ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*make, *into, *names], check=True, capture_output=True)
    port = free_port()
    node = start_node(
        f"listeners.ssl.default = 127.0.0.1:{port}\n"
        f"ssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\n"
    )
    url = f"amqps://guest:guest@127.0.0.1:{port}/"
    with connect(f"{url}?cacertfile={certificate}") as broker:
        broker.publish([Message("q", b"secret")])
        (held,) = broker.lease(["q"], 1, PATIENCE_S)
        assert broker.settle(done=[held]) == []
    with connect(url) as broker, pytest.raises(BrokerRefused, match="cacertfile"):
        broker.depth("q", timeout_s=60.0)
    plain = node.url.replace("amqp://", "amqps://")
    with connect(plain) as broker, pytest.raises((BrokerRefused, BrokerUnavailable), match="TLS"):
        broker.depth("q", timeout_s=1.0)


def test_as_it_is_deployed(tmp_path: Path) -> None:
    """Our configuration and entrypoint; only what a container decides is left out."""
    launch = rabbitmq(tmp_path)
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "10-listeners.conf").write_text((tmp_path / "rabbitmq.conf").read_text())
    shutil.copy(OUTER / "rabbitmq.conf", folder / "50-queue-runner.conf")
    shutil.copy(OUTER / "enabled_plugins", tmp_path / "enabled_plugins")
    secret = tmp_path / "secret"
    secret.write_text("let-me.in\n")
    env = {
        **launch.env,
        "CONF_D": str(folder),
        "RABBITMQ_CONFIG_FILES": str(folder),
        "RABBITMQ_CONFIG_FILE": str(tmp_path / "none.conf"),
        "RABBITMQ_PASSWORD_FILE": str(secret),
    }
    url = launch.url.replace("guest:guest", "queue-runner:let-me.in")
    deployed = type(launch)(url, [str(OUTER / "entrypoint"), *launch.server], launch.helpers, env)
    server = LocalServer(deployed, tmp_path)
    try:
        server.start()
        with connect(url) as broker:
            broker.publish([Message("q", b"x")])
            assert len(broker.lease(["q"], 1, PATIENCE_S)) == 1
        with connect(launch.url) as guest, pytest.raises(BrokerRefused):
            guest.depth("q", timeout_s=60.0)
    finally:
        server.close()


@pytest.mark.parametrize("said", ["", "two words", 'quo"te'])
def test_the_entrypoint_wants_a_password_it_can_write_down(said: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [OUTER / "entrypoint", "true"],
        env={"PATH": os.environ["PATH"], "RABBITMQ_PASSWORD": said, "CONF_D": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 64
    assert "password" in done.stderr
    assert list(tmp_path.iterdir()) == []
