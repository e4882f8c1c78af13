"""Strangers who speak to the ZeroMQ server, or answer its clients: it lives on, and so do they."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from queue_runner.brokers.base import Dead, Message
from queue_runner.brokers.registry import connect
from queue_runner.brokers.zeromq.client import Connection
from queue_runner.brokers.zeromq.protocol import MAX_FRAME_BYTES, VERSION, pack
from queue_runner.brokers.zeromq.server import BrokerServer
from queue_runner.errors import BrokerUnavailable
from tests.unit.messages import ODD, PLAIN

MIB = 1024**2
OPERATIONS = [
    "publish", "lease", "forget", "renew", "settle", "broadcast", "subscribe", "ping", "depth",
    "dead-letters", "replay", "purge",
]  # fmt: skip
VALUES = (
    PLAIN
    | ODD.filter(lambda value: not isinstance(value, msgpack.Timestamp))
    | st.binary(max_size=20)
)
REQUESTS = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda version, operation, arguments: msgpack.packb([version, operation, arguments]),
        st.just(VERSION) | VALUES,
        st.sampled_from(OPERATIONS) | st.text(max_size=10),
        st.lists(VALUES, max_size=7) | VALUES,
    ),
    st.builds(
        lambda bundles: msgpack.packb([VERSION, "publish", [bundles]]),
        st.lists(
            st.tuples(
                st.just("x:jobs") | VALUES, st.just(1) | VALUES, st.just(0) | VALUES,
                st.just(0.0) | VALUES, st.just(1) | VALUES, st.just([b"body"]) | VALUES,
            ),
            max_size=3,
        ),
    ),
)  # fmt: skip
FRAMES = st.lists(REQUESTS | st.binary(max_size=70), max_size=4)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerServer]:
    folder: Path = tmp_path_factory.mktemp("zeromq")
    server = BrokerServer(["zmq+tcp://127.0.0.1:0"], folder / "journal.sqlite")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def stranger(server: BrokerServer) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(server.urls[0].removeprefix("zmq+"))
        yield dealer


def _lives(server: BrokerServer) -> None:
    with connect(server.urls[0]) as broker:
        broker.publish([Message("alive", b"yes")])
        (delivery,) = broker.lease(["alive"], 1, 10.0)
        assert broker.settle(done=[delivery]) == []


@settings(
    max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(frames=FRAMES)
def test_the_server_answers_or_drops_whatever_a_stranger_sends(
    server: BrokerServer, stranger: zmq.Socket[bytes], frames: list[bytes]
) -> None:
    if frames:
        stranger.send_multipart(frames)
    stranger.send_multipart([b"check", msgpack.packb([VERSION, "ping", []])])
    while (answer := stranger.recv_multipart())[0] != b"check":
        assert len(answer) == 2
    assert msgpack.unpackb(answer[1])[0] == "ok"
    assert server._thread is not None
    assert server._thread.is_alive()


@pytest.mark.parametrize(
    "request_",
    [
        msgpack.packb([1, "ping", []]),
        msgpack.packb([VERSION, "lease", [["x:q"] * 5000, 1, 1.0, 1.0, None, None]]),
        msgpack.packb([VERSION, "lease", [["x:q"], 1, 1e12, 1.0, None, None]]),
        msgpack.packb([VERSION, "publish", [[["x:q", 2**62, 0, 0.0, 1, [b""]]]]]),
        msgpack.packb([VERSION, "publish", [[["x:q", 1, 0, 0.0, 2**62, [b""]]]]]),
        msgpack.packb([VERSION, "publish", [[["x:q", 1, 0, 0.0, 1, [b"x" * (17 * MIB)]]]]]),
        msgpack.packb([VERSION, "publish", [[["x:q", 1, 0, 0.0, 1, [b"x", "x"]]]]]),
        msgpack.packb([VERSION, "publish", [[["x:q", 1, 0, 0.0, 1, []]]]]),
        msgpack.packb([VERSION, "publish", [[["x:q", 1, 0, 0.0, 1, [b""] * 3000]] * 2]]),
        msgpack.packb([VERSION, "settle", [[[], []], [[1, 1, float("nan"), True]], [], []]]),
        msgpack.packb([VERSION, "settle", [[[1, 2], [1]], [], [], []]]),
        msgpack.packb([VERSION, "settle", [[[1, True], [1, 1]], [], [], []]]),
        msgpack.packb([VERSION, "renew", [[[1, 2**63], [1, 1]], 1.0]]),
        msgpack.packb([VERSION, "renew", [[[0] * 1_000_001, [0] * 1_000_001], 1.0]]),
        msgpack.packb([VERSION, "no-such", []]),
        b"\xdd\x00\x7f\xff\xff" * 1000,
        b"\xdd\x00\xff\xff\xff" + b"\x90" * (16 * MIB),
    ],
    ids=lambda body: repr(body[:40]),
)
def test_what_is_wrong_with_a_request_is_told(stranger: zmq.Socket[bytes], request_: bytes) -> None:
    stranger.send_multipart([b"wrong", request_])
    while (answer := stranger.recv_multipart())[0] != b"wrong":
        continue
    status, text = msgpack.unpackb(answer[1])
    assert status in ("refused", "bad-value")
    assert text.isprintable()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 100,
        b"\xff" * 100_000,
        b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL" + b"\0" * 48 + b"\x04" + b"\xff" * 500,
        b"",
    ],
    ids=["http", "ones", "half a handshake", "nothing"],
)
def test_who_does_not_speak_zeromq_is_hung_up_on(server: BrokerServer, data: bytes) -> None:
    port = int(server.urls[0].rpartition(":")[2])
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(data)
    _lives(server)


def test_a_frame_over_the_limit_costs_its_sender_the_connection(server: BrokerServer) -> None:
    before = psutil.Process().memory_info().rss
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(server.urls[0].removeprefix("zmq+"))
        dealer.send_multipart([b"1", b"x" * (MAX_FRAME_BYTES + 1)])
        assert not dealer.poll(500)
    _lives(server)
    assert psutil.Process().memory_info().rss - before < 200 * MIB


def test_clients_that_wait_and_listen_without_end_are_bounded(
    server: BrokerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_runner.brokers.zeromq.server._MAX_WAITERS", 50)
    monkeypatch.setattr("queue_runner.brokers.zeromq.server._MAX_SUBSCRIBERS", 50)
    lease = msgpack.packb([VERSION, "lease", [["x:none"], 1, 80_000.0, 1.0, None, None]])
    for turn in range(4):
        with zmq.Context() as context:
            dealers = [context.socket(zmq.DEALER) for _ in range(50)]
            for number, dealer in enumerate(dealers):
                dealer.setsockopt(zmq.LINGER, 1000)
                dealer.connect(server.urls[0].removeprefix("zmq+"))
                for round_ in range(3):
                    dealer.send_multipart([b"%d-%d-%d" % (turn, number, round_), lease])
                subscribe = msgpack.packb([VERSION, "subscribe", [["x:t"]]])
                dealer.send_multipart([b"s-%d-%d" % (turn, number), subscribe])
                assert dealer.poll(10_000)
                dealer.close()
    _lives(server)
    assert len(server._subscribers) <= 50
    assert len(server._waiters) <= 50 + 256  # as many more as one turn takes in


def test_many_large_messages_are_handed_out_a_few_at_a_time(server: BrokerServer) -> None:
    with connect(server.urls[0]) as broker:
        bodies = [bytes([number]) * (6 * MIB) for number in range(12)]
        broker.publish([Message("large", body) for body in bodies])
        found: list[bytes] = []
        while some := broker.lease(["large"], 1000, 0.0):
            found += [delivery.body for delivery in some]
            broker.settle(dead=[Dead(delivery, "large") for delivery in some])
        assert found == bodies
        assert [letter.body for letter in broker.dead_letters("large", 10)] == bodies[:10]
        assert broker.depth("large").dead == 12


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_client_lives_through_a_server_that_talks_nonsense() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        connection = Connection(f"tcp://127.0.0.1:{port}")
        nonsense: list[Any] = [
            b"", b"\xc1", pack(None), pack([]), pack(["ok"]), pack([1, 2]), pack([1, 2, 3, 4]),
            pack({"a": 1}), pack({"a": 1, "b": 2}), pack(["message", 1, 2]),
            pack(["message", ["t"], b""]), b"\x90" * 10_000,
        ]  # fmt: skip

        def serve(value: object) -> bytes:
            client: bytes
            client, number, _ = router.recv_multipart()
            for body in nonsense:
                for to in (b"", b"another", number):
                    router.send_multipart([client, to, body])
            router.send_multipart([client, b"only one"])
            router.send_multipart([client, b"a", b"b", b"c"])
            router.send_multipart([client, number, pack(["ok", value])])
            return client

        def serve_both() -> None:
            serve([1, 2, 3, 4])
            router.send_multipart([serve(None), b"", pack(["message", "x:t", b"heard"])])

        serving = threading.Thread(target=serve_both)
        serving.start()
        try:
            assert connection.call(20.0, "depth", "x:q") == [1, 2, 3, 4]
            subscription = connection.subscribe(frozenset({"x:t"}), 20.0)
            assert subscription.get(20.0) == ("t", b"heard")
        finally:
            connection.close()
            serving.join(20.0)
            router.setsockopt(zmq.LINGER, 0)


def test_a_call_that_is_never_answered_ends_with_its_deadline() -> None:
    connection = Connection("tcp://127.0.0.1:1")
    try:
        with pytest.raises(BrokerUnavailable):
            connection.call(0.1, "depth", "x:q")
    finally:
        connection.close()
