"""Which messages a consumer is handed: priority, queue, size, age, and only what fits."""

from __future__ import annotations

import random

import pytest

from queue_runner.brokers import Broker, Delivery
from queue_runner.testing.contract.bench import (
    OTHER,
    PATIENCE_S,
    QUEUE,
    Bench,
    assert_empty,
    eventually,
    message,
    take,
    texts,
)

SIZES = [1, 2, 3, 4, 5, 7, 8, 100]


class OrderContract(Bench):
    def test_higher_priorities_first(self, broker: Broker) -> None:
        order = [3, 0, 9, 1, 5, 9, 0]
        broker.publish([message(f"{p}-{n}", priority=p) for n, p in enumerate(order)])
        eventually(lambda: broker.depth(QUEUE).ready == len(order))
        expected = [f"{p}-{n}" for n, p in sorted(enumerate(order), key=lambda x: (-x[1], x[0]))]
        assert texts(take(broker, len(order))) == expected

    def test_one_at_a_time_in_the_same_order(self, broker: Broker) -> None:
        broker.publish([message(str(p), priority=p) for p in (2, 7, 4)])
        eventually(lambda: broker.depth(QUEUE).ready == 3)
        got = [take(broker, 1)[0].body for _ in range(3)]
        assert got == [b"7", b"4", b"2"]

    def test_earlier_queues_first_within_a_priority(self, broker: Broker) -> None:
        broker.publish([message("first", queue=OTHER), message("second")])
        broker.publish([message("urgent", priority=1)])
        eventually(lambda: broker.depth(QUEUE).ready == 2 and broker.depth(OTHER).ready == 1)
        assert texts(take(broker, 3, [OTHER, QUEUE])) == ["urgent", "first", "second"]

    def test_larger_sizes_first_within_a_queue(self, broker: Broker) -> None:
        broker.publish([message(f"{s}-{n}", size=s) for n in range(2) for s in (1, 100, 3)])
        eventually(lambda: broker.depth(QUEUE).ready == 6)
        expected = ["100-0", "100-1", "3-0", "3-1", "1-0", "1-1"]
        assert texts(take(broker, 6)) == expected

    def test_what_does_not_fit_stays_for_somebody_else(self, broker: Broker, other: Broker) -> None:
        broker.publish([message("four", size=4), message("two", size=2)])
        small = broker.lease([QUEUE], 10, PATIENCE_S, room=2)
        assert texts(small) == ["two"]
        assert broker.lease([QUEUE], 10, 0.3, room=2) == []
        big = other.lease([QUEUE], 10, PATIENCE_S, room=4)
        assert texts(big) == ["four"]
        assert broker.settle(done=small) == []
        assert other.settle(done=big) == []

    def test_max_size(self, broker: Broker) -> None:
        broker.publish([message("four", size=4), message("one", size=1), message("two", size=2)])
        eventually(lambda: broker.depth(QUEUE).ready == 3)
        found = broker.lease([QUEUE], 10, PATIENCE_S, room=100, max_size=2)
        assert texts(found) == ["two", "one"]
        assert broker.settle(done=found) == []
        assert texts(take(broker, 1)) == ["four"]

    @pytest.mark.parametrize("room", [0, -3])
    def test_no_room_is_no_message(self, broker: Broker, room: int) -> None:
        broker.publish([message("one")])
        assert broker.lease([QUEUE], 1, 0.0, room=room) == []
        assert texts(take(broker, 1)) == ["one"]

    @pytest.mark.parametrize("size", SIZES)
    def test_sizes_never_add_up_to_more_than_the_room(self, broker: Broker, size: int) -> None:
        broker.publish([message(str(n), size=size) for n in range(6)])
        eventually(lambda: broker.depth(QUEUE).ready == 6)
        held = broker.lease([QUEUE], 10, PATIENCE_S, room=3 * size + size // 2)
        assert len(held) == 3
        assert broker.settle(done=held) == []
        assert len(take(broker, 3)) == 3

    def test_mixed_sizes_all_come_and_never_too_much(self, broker: Broker) -> None:
        chance = random.Random(1)
        sizes = [chance.choice(SIZES) for _ in range(300)]
        broker.publish([message(str(n), size=size) for n, size in enumerate(sizes)])
        got: list[Delivery] = []
        while len(got) < len(sizes):
            room, limit = chance.choice([8, 100, 150]), chance.randint(1, 20)
            if all(size == 100 for size in _left(sizes, got)):
                room = 100
            found = broker.lease([QUEUE], limit, 0.5, room=room)
            assert sum(delivery.size for delivery in found) <= room
            assert len(found) <= limit
            assert broker.settle(done=found) == []
            got += found
        assert sorted(int(text) for text in texts(got)) == list(range(len(sizes)))
        assert_empty(broker)

    def test_the_room_left_is_filled_with_smaller_ones(self, broker: Broker) -> None:
        broker.publish([message("five", size=5), message("three", size=3), message("two", size=2)])
        eventually(lambda: broker.depth(QUEUE).ready == 3)
        found = broker.lease([QUEUE], 10, PATIENCE_S, room=7)
        assert texts(found) == ["five", "two"]
        assert broker.settle(done=found) == []
        assert texts(take(broker, 1)) == ["three"]


def _left(sizes: list[int], got: list[Delivery]) -> list[int]:
    seen = {int(delivery.body) for delivery in got}
    return [size for number, size in enumerate(sizes) if number not in seen]
