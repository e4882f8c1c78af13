"""Publish: everything arrives, as it was sent, or nothing was sent."""

from __future__ import annotations

import math
import os

import pytest

from queue_runner.brokers import Broker, Message
from queue_runner.brokers.base import MAX_BODY_BYTES
from queue_runner.errors import TooBig
from queue_runner.testing.contract.bench import (
    OTHER,
    QUEUE,
    Bench,
    assert_empty,
    eventually,
    lease_one,
    message,
    take,
    texts,
)

BAD_NAMES = ["", "a b", "a:b", "ü", "a/b", "x" * 101, "a\n", "*", "a{b}"]


class PublishContract(Bench):
    def test_ten_thousand_arrive_in_order(self, broker: Broker, other: Broker) -> None:
        names = [str(number) for number in range(10_000)]
        broker.publish([message(name) for name in names])
        assert texts(take(other, 10_000)) == names
        assert_empty(broker)

    def test_order_holds_over_several_publishes(self, broker: Broker) -> None:
        for number in range(50):
            broker.publish([message(str(number))])
        assert texts(take(broker, 50)) == [str(number) for number in range(50)]

    @pytest.mark.parametrize(
        "body", [b"", b"\0", bytes(range(256)) * 4, b"\r\n$-1\r\n", b"\xff\xfe{}"], ids=repr
    )
    def test_any_bytes_are_a_body(self, broker: Broker, body: bytes) -> None:
        broker.publish([Message(QUEUE, body)])
        assert take(broker, 1)[0].body == body

    def test_a_large_body(self, broker: Broker) -> None:
        body = os.urandom(4 * 1024 * 1024)
        broker.publish([Message(QUEUE, body), message("small")])
        assert [delivery.body for delivery in take(broker, 2)] == [body, b"small"]

    def test_many_large_bodies_at_once(self, broker: Broker) -> None:
        bodies = [bytes([number]) * 1_000_000 for number in range(30)]
        broker.publish([Message(QUEUE, body) for body in bodies])
        assert [delivery.body for delivery in take(broker, 30)] == bodies

    def test_a_delivery_says_what_was_published(self, broker: Broker) -> None:
        broker.publish([Message(OTHER, b"x", size=7, priority=4, attempt=3)])
        found = lease_one(broker, queue=OTHER)
        assert (found.queue, found.body, found.size, found.priority, found.attempt) == (
            OTHER,
            b"x",
            7,
            4,
            3,
        )
        assert broker.settle(done=[found]) == []

    def test_longest_and_oddest_names(self, broker: Broker) -> None:
        for queue in ("q" * 100, "-", "_", "0", "A.b-C_9", ".."):
            broker.publish([Message(queue, queue.encode())])
            assert take(broker, 1, [queue])[0].queue == queue

    def test_nothing_is_a_batch(self, broker: Broker) -> None:
        broker.publish([])
        assert broker.settle() == []
        assert broker.renew([]) == []

    def test_too_big_is_said_before_anything_is_sent(self, broker: Broker) -> None:
        with pytest.raises(TooBig):
            broker.publish([message("first"), Message(QUEUE, bytes(MAX_BODY_BYTES + 1))])
        assert_empty(broker)

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_bad_queue_names(self, broker: Broker, name: str) -> None:
        with pytest.raises(ValueError):
            broker.publish([message("first"), Message(name, b"x")])
        with pytest.raises(ValueError):
            broker.lease([name], 1, 0.0)
        with pytest.raises(ValueError):
            broker.depth(name)
        assert_empty(broker)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"size": 0},
            {"size": 1.5},
            {"size": True},
            {"priority": 10},
            {"priority": -1},
            {"priority": 0.5},
            {"delay_s": -1},
            {"delay_s": math.nan},
            {"delay_s": math.inf},
            {"attempt": 0},
            {"attempt": "1"},
        ],
        ids=str,
    )
    def test_bad_values(self, broker: Broker, wrong: dict[str, object]) -> None:
        with pytest.raises(ValueError):
            broker.publish([message("first"), message("wrong", **wrong)])
        assert_empty(broker)

    def test_a_body_is_bytes(self, broker: Broker) -> None:
        with pytest.raises(ValueError):
            broker.publish([message("first"), Message(QUEUE, "text")])  # type: ignore[arg-type]
        assert_empty(broker)

    def test_bad_leases(self, broker: Broker) -> None:
        for queues, limit, lease_s in (
            ([], 1, 1.0),
            ([QUEUE], 0, 1.0),
            ([QUEUE], 1, 0.0),
            ([QUEUE], 1, math.nan),
        ):
            with pytest.raises(ValueError):
                broker.lease(queues, limit, 0.0, lease_s=lease_s)

    def test_a_delayed_message_is_not_leased_before_its_time(self, broker: Broker) -> None:
        broker.publish([message("late", delay_s=1.0), message("now")])
        assert texts(take(broker, 1)) == ["now"]
        assert broker.lease([QUEUE], 1, 0.0) == []
        assert texts(take(broker, 1)) == ["late"]

    def test_depth(self, broker: Broker) -> None:
        broker.publish([message(str(number)) for number in range(5)])
        broker.publish([message("late", delay_s=600.0)])
        held = lease_one(broker)
        able = broker.capabilities
        expected = (4, 1 if able.counts_delayed else None, 1 if able.counts_leased else None, 0)

        def counts() -> bool:
            depth = broker.depth(QUEUE)
            return (depth.ready, depth.delayed, depth.leased, depth.dead) == expected

        eventually(counts)
        assert broker.settle(done=[held]) == []

    def test_an_unknown_queue_is_empty(self, broker: Broker) -> None:
        depth = broker.depth("never-heard-of")
        assert (depth.ready, depth.delayed or 0, depth.leased or 0, depth.dead) == (0, 0, 0, 0)
        assert broker.dead_letters("never-heard-of") == []
        assert broker.replay("never-heard-of") == 0
        assert broker.purge("never-heard-of") == 0

    def test_purge_leaves_what_is_leased(self, broker: Broker) -> None:
        broker.publish([message("held", priority=9)])
        held = lease_one(broker)
        broker.publish([message(str(n), size=n + 1, priority=n) for n in range(5)])
        broker.publish([message("late", delay_s=600.0)])
        eventually(lambda: broker.depth(QUEUE).ready == 5)
        assert broker.purge(QUEUE) == 6
        assert_empty(broker)
        assert broker.settle(done=[held]) == []

    def test_server_names_itself(self, broker: Broker) -> None:
        info = broker.server()
        assert info.product
        assert info.version
