"""Somebody who writes to our keys of a Redis server by hand stops nobody."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import msgpack
import pytest
from redis import Redis

from queue_runner.brokers import Broker, Dead, Message, Retry, connect
from queue_runner.brokers.base import MAX_BODY_BYTES
from queue_runner.workers.settler import Ending, Settler

QUEUE = "jobs.x"
#: Prints what it leases, and how much more memory that has taken at most.
CONSUME = """
import resource, sys
from queue_runner.brokers import connect
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with connect(sys.argv[1]) as broker:
    broker.depth(sys.argv[2])
    before = peak()
    (delivery,) = broker.lease([sys.argv[2]], 10, 10.0)
    print(delivery.body.decode(), peak() - before)
    broker.settle(done=[delivery])
"""


@pytest.fixture
def broker(redis_url: str) -> Iterator[Broker]:
    with connect(redis_url) as broker:
        yield broker


class Stranger:
    """Commands in which `{k}` stands for our prefix."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._prefix = "{" + parse_qs(parts.query)["prefix"][0] + "}"
        self._client = Redis.from_url(parts._replace(query="").geturl(), protocol=2)

    def __call__(self, command: str, *rest: object) -> object:
        words = [word.replace("KEY", self._prefix) for word in command.split()]
        return self._client.execute_command(*words, *rest)

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def stranger(redis_url: str) -> Iterator[Stranger]:
    stranger = Stranger(redis_url)
    yield stranger
    stranger.close()


def _works(broker: Broker, known: int = 0) -> None:
    """All that a worker does, with messages of ours."""
    bodies = [b"%d" % number for number in range(10)]
    broker.publish([Message(QUEUE, body) for body in bodies[:5]])
    broker.publish([Message(QUEUE, body, delay_s=0.01) for body in bodies[5:]])
    found: set[bytes] = set()
    retried = False
    while len(found) < len(bodies):
        some = broker.lease([QUEUE], 100, 10.0)
        assert some, f"only {found}"
        assert broker.renew(some) == []
        if not retried:
            retried = True
            assert broker.settle(retry=[Retry(each, delay_s=0.01) for each in some]) == []
            continue
        found |= {each.body for each in some}
        assert broker.settle(done=some) == []
    assert found >= set(bodies)
    depth = broker.depth(QUEUE)
    assert (depth.ready, depth.delayed, depth.leased) == (0, 0, 0)
    letters = broker.dead_letters(QUEUE)
    assert len(letters) == depth.dead == known
    assert all(letter.reason for letter in letters)


FOREIGN = [
    ("XADD KEY:s:jobs.x:0:1:b * hello world", 1),
    ("XADD KEY:s:jobs.x:0:1:b * b body a none", 1),
    ("XADD KEY:s:jobs.x:0:1:b * b body a 99999999999999999999", 1),
    ("XADD KEY:s:jobs.x:0:1:b * a 1", 1),
    ("XADD KEY:s:jobs.x:0:1:b 18446744073709551615-0 b body a 1", 0),
    ("XADD KEY:s:jobs.x:0:1:b 18446744073709551615-18446744073709551615 x y", 0),
    ("SADD KEY:c:jobs.x garbage", 0),
    ("SADD KEY:c:jobs.x 0:1:b", 0),
    ("SADD KEY:c:jobs.x 5:7:a", 0),
    ("SADD KEY:c:jobs.x 99999999999999999999:1:a", 0),
    ("SADD KEY:c:jobs.x 0:0:a", 0),
    ("ZADD KEY:x:jobs.x 0 garbage", 0),
    ("ZADD KEY:x:jobs.x 0 0:1:b:99999999999999999999999999", 0),
    ("ZADD KEY:x:jobs.x -inf 0:1:b:77", 0),
    ("ZADD KEY:d:jobs.x 0 garbage", 0),
    ("XADD KEY:w:jobs.x * w x", 0),
    ("XADD KEY:w:jobs.x 18446744073709551615-1 w x", 0),
    ("XADD KEY:dead:jobs.x * hello world", 1),
    ("SET KEY:seq 0", 0),
]


@pytest.mark.parametrize(("command", "dead"), FOREIGN, ids=[command for command, _ in FOREIGN])
@pytest.mark.parametrize("when", ["first", "later"])
def test_what_others_write_is_dead_lettered_or_removed(
    broker: Broker, stranger: Stranger, command: str, dead: int, when: str
) -> None:
    if when == "later":
        _works(broker)
        broker.publish([Message(QUEUE, b"10")])
    stranger(command)
    if when == "first" and command.startswith("XADD KEY:s:"):
        stranger("SADD KEY:c:jobs.x 0:1:b")
    if when == "later" and "18446744073709551615" in command and ":s:" in command:
        # the number above which there is none: the stream is put aside with what was in it
        _works(broker)
        return
    _works(broker, dead)


@pytest.mark.parametrize(
    "packed", [b"garbage", b"\xc1", b"", msgpack.packb({}), msgpack.packb([1, 2, 3, 4, 5])]
)
def test_a_delayed_message_of_somebody_else_is_dead_lettered(
    broker: Broker, stranger: Stranger, packed: bytes
) -> None:
    stranger("HSET KEY:D:jobs.x 0000000000999999", packed)
    stranger("ZADD KEY:d:jobs.x 0 0000000000999999")
    _works(broker, 1)
    assert broker.dead_letters(QUEUE)[0].body == packed


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 100_000_000])
def test_a_body_over_the_limit_never_reaches_a_consumer(
    broker: Broker, stranger: Stranger, redis_url: str, size: int
) -> None:
    stranger("SADD KEY:c:jobs.x 0:1:b")
    stranger("XADD KEY:s:jobs.x:0:1:b * b", b"x" * size, "a", "1")
    broker.publish([Message(QUEUE, b"ours")])
    # in a process of its own: this one has just sent the body
    asked = [sys.executable, "-c", CONSUME, redis_url, QUEUE]
    done = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True)
    body, more = done.stdout.split()
    assert body == "ours"
    assert int(more) < 30 * 1024**2
    (letter,) = broker.dead_letters(QUEUE)
    assert str(MAX_BODY_BYTES) in letter.reason
    assert broker.depth(QUEUE).ready == 0


def test_dead_letters_of_somebody_else_are_listed_and_replayed(
    broker: Broker, stranger: Stranger
) -> None:
    stranger("XADD KEY:dead:jobs.x 3-7 hello world")
    stranger("XADD KEY:dead:jobs.x 4-0 body x size big priority -1 at_ms never reason", b"\xff")
    letters = broker.dead_letters(QUEUE)
    assert [(letter.size, letter.priority, letter.attempt) for letter in letters] == [(1, 0, 1)] * 2
    broker.publish([Message("other", b"x")] * 9)
    assert broker.replay(QUEUE) == 2
    found = broker.lease([QUEUE], 10, 5.0)
    assert [each.body for each in found] == [b"", b"x"]
    assert broker.settle(dead=[Dead(each, "again") for each in found]) == []
    assert [letter.reason for letter in broker.dead_letters(QUEUE)] == ["again"] * 2


def test_what_cannot_be_buried_comes_again_late_and_the_rest_goes_on(
    broker: Broker, stranger: Stranger
) -> None:
    stranger("SET KEY:dead:jobs.x hello")
    broker.publish([Message(QUEUE, b"bad"), Message(QUEUE, b"good")])
    bad, good = broker.lease([QUEUE], 2, 10.0)
    ended: list[Ending] = []
    settler = Settler(broker, ended.extend, lambda: 2)
    settler.add(Ending(bad, dead=Dead(bad, "no message of ours")))
    settler.add(Ending(good))
    settler.finish(30.0)
    settler.run()
    assert len(ended) == 2
    stranger("DEL KEY:dead:jobs.x")
    depth = broker.depth(QUEUE)
    assert (depth.ready, depth.delayed, depth.leased, depth.dead) == (0, 1, 0, 0)
