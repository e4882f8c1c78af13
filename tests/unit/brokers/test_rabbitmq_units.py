"""What the RabbitMQ adapter decides without a server: URLs, delays, attempts, shares."""

from __future__ import annotations

import asyncio

import pika
import pytest
from pika import frame, spec

from queue_runner.brokers import connect
from queue_runner.brokers.rabbitmq.address import parse
from queue_runner.brokers.rabbitmq.connection import Connection
from queue_runner.brokers.rabbitmq.envelope import attempt_of
from queue_runner.brokers.rabbitmq.link import _break_off
from queue_runner.brokers.rabbitmq.outgoing import LaneProperties, before_id, message_frames
from queue_runner.brokers.rabbitmq.topology import LINGER_MS, MAX_DELAY_S, Lane, rounded_ms
from queue_runner.brokers.rabbitmq.want import Want


@pytest.mark.parametrize(
    "url",
    [
        "amqp://host:port/",
        "amqp://host,other:port/",
        "amqp://host/?prefx=a",
        "amqp://host/?prefix=a:b",
        "amqp://host/?prefix=",
        "amqp://host/?heartbeat=0",
        "amqp://host/?heartbeat=soon",
        "amqp://host/?hold_s=-1",
        "amqp://host/?cacertfile=ca.pem",
        "amqps://host/?verify=maybe",
    ],
)
def test_malformed_urls(url: str) -> None:
    with pytest.raises(ValueError):
        connect(url)


def test_a_misspelt_parameter_is_answered_with_the_right_one() -> None:
    with pytest.raises(ValueError, match="prefix"):
        connect("amqp://host/?prefx=a")


def test_what_a_url_says() -> None:
    address = parse("amqp://us%40r:p%2Fw@host:1/lab%2Fone?prefix=mine&heartbeat=9&hold_s=60")
    (said,) = address.nodes
    assert (said.host, said.port, said.virtual_host) == ("host", 1, "lab/one")
    assert (said.credentials.username, said.credentials.password) == ("us@r", "p/w")
    assert (address.prefix, address.heartbeat_s, address.hold_s) == ("mine", 9, 60)
    assert "p%2Fw" not in address.shown


def test_a_url_may_name_the_nodes_of_a_cluster() -> None:
    address = parse("amqps://us:pw@one,two:5673,[::1]/lab?prefix=mine")
    assert address.where == "one:5671,two:5673,::1:5671"
    assert [node.ssl_options.server_hostname for node in address.nodes] == ["one", "two", "::1"]
    assert {node.virtual_host for node in address.nodes} == {"lab"}
    assert {node.credentials.password for node in address.nodes} == {"pw"}


@pytest.mark.parametrize(
    ("delay_s", "delay_ms"), [(0.0, 0), (0.0001, 1), (0.099, 99), (0.101, 110), (61.0, 61000)]
)
def test_delays_are_rounded_up_to_two_digits(delay_s: float, delay_ms: int) -> None:
    assert rounded_ms(delay_s) == delay_ms


def test_the_longest_delay_fits_into_the_timers_of_the_server() -> None:
    assert MAX_DELAY_S * 1000 <= rounded_ms(MAX_DELAY_S) < 2**32 - LINGER_MS


@pytest.mark.parametrize(
    ("headers", "redelivered", "attempt"),
    [
        (None, False, 1),
        ({"qr-attempt": 3}, False, 3),
        ({"qr-attempt": 3, "x-delivery-count": 2}, True, 5),
        # dead-lettered from a queue where it had been delivered
        ({"qr-attempt": 3, "x-delivery-count": 2}, False, 3),
        # 4.3 and later
        ({"qr-attempt": 1, "x-delivery-count": 0, "x-acquired-count": 2}, True, 3),
        ({"qr-attempt": "many"}, False, 1),
    ],
)
def test_attempts(headers: dict[str, object] | None, redelivered: bool, attempt: int) -> None:
    assert attempt_of(headers, redelivered) == attempt


def test_limit_and_room_are_allotted_in_order() -> None:
    want = Want(("a", "b"), limit=4, room=9, max_size=5)
    lanes = [Lane("b", 1, 5), Lane("a", 0, 3), Lane("a", 0, 1), Lane("b", 0, 1)]
    assert sorted(lanes, key=want.order) == lanes
    assert want.allot(lanes, dict.fromkeys(lanes, 10)) == {
        lanes[0]: 1,
        lanes[1]: 1,
        lanes[2]: 1,
    }
    assert not want.fits(Lane("a", 0, 6))


def test_breaking_off_an_attempt_that_is_over_is_no_error() -> None:
    async def attempt() -> object:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[object] = loop.create_future()
        (node,) = parse("amqp://127.0.0.1:9/").nodes
        workflow = Connection.create_connection([node], done.set_result, custom_ioloop=loop)
        outcome = await done
        _break_off(workflow)
        return outcome

    assert isinstance(asyncio.run(attempt()), Exception)


@pytest.mark.parametrize("attempt", [1, 2, 300, 2**31 - 1])
@pytest.mark.parametrize("exchange", ["", "qr:lanes"])
def test_messages_are_encoded_as_pika_does_it(attempt: int, exchange: str) -> None:
    headers = {"qr-attempt": attempt, "qr-priority": 9, "qr-size": 4}
    for name in ("first-1", "second-22"):
        theirs = pika.BasicProperties(delivery_mode=2, message_id=name, headers=headers)
        method = spec.Basic.Publish(exchange=exchange, routing_key="qr:jobs:0:1", mandatory=True)
        parts = [frame.Method(7, method), frame.Header(7, 4, theirs), frame.Body(7, b"body")]
        expected = b"".join(part.marshal() for part in parts)
        ours = LaneProperties(name, before_id(headers))
        assert message_frames(7, exchange, "qr:jobs:0:1", True, ours, b"body") == expected
        # of a body in several frames, which pika sends
        assert frame.Header(7, 2**30, ours).marshal() == frame.Header(7, 2**30, theirs).marshal()
