"""Somebody who publishes to our queues of a RabbitMQ server stops nobody."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pika
import psutil
import pytest

from queue_runner.brokers import Broker, Dead, Message, Retry, connect
from queue_runner.brokers.base import MAX_BODY_BYTES

QUEUE = "jobs.x"
MIB = 1024**2
PUBLISH = """
import pika, sys
url, key, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
with pika.BlockingConnection(pika.URLParameters(url)) as connection:
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish("", key, b"x" * size)
"""


class Raw(pika.BasicProperties):  # type: ignore[misc]
    """Headers of whatever bytes."""

    def __init__(self, table: bytes) -> None:
        super().__init__()
        self._table = table

    def encode(self) -> list[bytes]:
        return [b"\x20\x00", len(self._table).to_bytes(4, "big"), self._table]


class Stranger:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url = parts._replace(query="").geturl()
        self._prefix = parse_qs(parts.query)["prefix"][0]
        self._connection = pika.BlockingConnection(pika.URLParameters(self.url))
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()

    def lane(self) -> str:
        return f"{self._prefix}:{QUEUE}:p0:s1"

    def put(self, body: bytes, props: Any = None) -> None:
        self._channel.basic_publish("", self.lane(), body, props, mandatory=True)

    def record(self, body: bytes) -> None:
        self._channel.basic_publish(f"{self._prefix}:lanes", "", body)

    def shout(self, topic: str, body: bytes, props: Any = None) -> None:
        self._channel.basic_publish(f"{self._prefix}:broadcast", topic, body, props)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def broker(rabbitmq_url: str) -> Iterator[Broker]:
    with connect(rabbitmq_url) as broker:
        _works(broker)
        yield broker


@pytest.fixture
def stranger(rabbitmq_url: str, broker: Broker) -> Iterator[Stranger]:
    stranger = Stranger(rabbitmq_url)
    yield stranger
    stranger.close()


def _works(broker: Broker) -> set[bytes]:
    """All that a worker does; returns what came beside our own messages."""
    bodies = {b"%d" % number for number in range(10)}
    broker.publish([Message(QUEUE, body) for body in sorted(bodies)])
    found: set[bytes] = set()
    retried = False
    while not found >= bodies:
        some = broker.lease([QUEUE], 100, 20.0)
        assert some, f"only {found}"
        assert all(type(each.attempt) is int and 1 <= each.attempt < 2**31 for each in some)
        assert broker.renew(some) == []
        if not retried:
            retried = True
            assert broker.settle(retry=[Retry(each, counted=False) for each in some]) == []
            continue
        found |= {each.body for each in some}
        assert broker.settle(done=some) == []
    return found - bodies


@pytest.mark.parametrize(
    "table",
    [
        b"\x01aT\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x01aT\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x02\xff\xfeV",
        b"\x01aS\x00\x00\x00\x01\xff",
        b"\x01aD\xff\x7f\xff\xff\xff",
        b"\x0aqr-attemptS\x00\x00\x00\x04many",
        b"\x0aqr-attemptl\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x0aqr-attemptl\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x0aqr-attemptV",
        b"\x0aqr-attemptt\x01",
        b"\x10x-delivery-countl\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"",
    ],
    ids=repr,
)
def test_headers_of_others_stop_nobody(broker: Broker, stranger: Stranger, table: bytes) -> None:
    stranger.put(b"with headers", Raw(table))
    stranger.put(b"with none")
    assert _works(broker) == {b"with headers", b"with none"}


def test_properties_of_others_are_dead_lettered_and_come_back(
    broker: Broker, stranger: Stranger
) -> None:
    headers = {
        "qr-reason": 7,
        "qr-priority": 99,
        "qr-size": -1,
        "qr-at-ms": 2**62,
        "qr-attempt": {},
    }
    stranger.put(b"odd", pika.BasicProperties(headers=headers, priority=255, expiration="100000"))
    (odd,) = broker.lease([QUEUE], 9, 20.0)
    assert broker.settle(dead=[Dead(odd, "odd\x1b[2J" * 5000)]) == []
    assert [letter.body for letter in broker.dead_letters(QUEUE)] == [b"odd"]
    assert broker.replay(QUEUE) == 1
    assert _works(broker) == {b"odd"}


def test_a_body_of_100_mb_costs_no_memory_and_is_dead_lettered(
    broker: Broker, stranger: Stranger
) -> None:
    size = 100_000_000
    before = psutil.Process().memory_info().rss
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", PUBLISH, stranger.url, stranger.lane(), str(size)], check=True
        )
    assert _works(broker) == set()
    letters = broker.dead_letters(QUEUE)
    while len(letters) < 2:  # the server moves them when it likes
        letters = broker.dead_letters(QUEUE)
    assert {letter.reason for letter in letters} == {
        f"a body of {size} bytes, of which the limit is {MAX_BODY_BYTES}"
    }
    assert broker.replay(QUEUE) == 0
    assert len(broker.dead_letters(QUEUE)) == 2
    assert psutil.Process().memory_info().rss - before < 80 * MIB


@pytest.mark.parametrize(
    "record",
    [
        b"garbage",
        b"",
        b"[" * 100_000,
        json.dumps({"queue": QUEUE}).encode(),
        json.dumps([QUEUE, -1, 1, 0]).encode(),
        json.dumps([QUEUE, 0, 10**12, 0]).encode(),
        json.dumps([QUEUE, 0, "1", 0]).encode(),
        json.dumps([QUEUE, 0, 1, 10**15]).encode(),
        json.dumps(["../x", 0, 1, 0]).encode(),
        json.dumps([QUEUE, 3, 7, 5000]).encode(),
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_record_of_others_stops_nobody(
    broker: Broker, stranger: Stranger, rabbitmq_url: str, record: bytes
) -> None:
    stranger.record(record)
    assert _works(broker) == set()
    with connect(rabbitmq_url) as another:
        assert _works(another) == set()


def test_broadcasts_of_others_are_heard_or_not_but_stop_nobody(
    broker: Broker, stranger: Stranger
) -> None:
    with broker.subscribe(["news"]) as news:
        stranger.shout("news", b"x" * (MAX_BODY_BYTES + 1))
        stranger.shout("news", b"odd", Raw(b"\x01aT\xff\xff\xff\xff\xff\xff\xff\xff"))
        broker.broadcast("news", b"ours")
        assert [news.get(20.0), news.get(20.0)] == [("news", b"odd"), ("news", b"ours")]
