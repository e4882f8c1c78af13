"""Dead letters: kept with their reason, looked at without being taken, put back."""

from __future__ import annotations

import time

from queue_runner.brokers import Broker, Dead, Delivery
from queue_runner.testing.contract.bench import (
    PATIENCE_S,
    QUEUE,
    Bench,
    assert_empty,
    eventually,
    lease_one,
    message,
    take,
    texts,
)


class DeadLetterContract(Bench):
    def test_a_dead_letter_says_all(self, broker: Broker, other: Broker) -> None:
        broker.publish([message("one", size=3, priority=2, attempt=6)])
        before = time.time()
        _bury(broker, lease_one(broker), "solver diverged: ∇·U ≠ 0\nsecond line")
        (letter,) = other.dead_letters(QUEUE)
        assert (letter.queue, letter.body, letter.size, letter.priority, letter.attempt) == (
            QUEUE,
            b"one",
            3,
            2,
            6,
        )
        assert letter.reason == "solver diverged: ∇·U ≠ 0\nsecond line"
        # the server's clock may be another host's
        assert abs(letter.at - before) < 600
        assert_empty(broker)

    def test_looking_takes_nothing(self, broker: Broker) -> None:
        _bury_some(broker, 5)
        first = broker.dead_letters(QUEUE)
        assert [letter.body for letter in first] == [b"0", b"1", b"2", b"3", b"4"]
        # RabbitMQ takes back in its own time what was looked at
        assert eventually(lambda: broker.dead_letters(QUEUE) == first)
        assert eventually(lambda: broker.dead_letters(QUEUE, limit=2) == first[:2])
        eventually(lambda: broker.depth(QUEUE).dead == 5)

    def test_replay_all(self, broker: Broker, other: Broker) -> None:
        _bury_some(broker, 5)
        assert other.replay(QUEUE) == 5
        assert broker.dead_letters(QUEUE) == []
        back = take(broker, 5)
        assert texts(back) == ["0", "1", "2", "3", "4"]
        assert {delivery.attempt for delivery in back} == {1}
        assert broker.replay(QUEUE) == 0

    def test_replay_some(self, broker: Broker) -> None:
        _bury_some(broker, 5)
        letters = broker.dead_letters(QUEUE)
        chosen = [letters[3].id, letters[1].id]
        assert broker.replay(QUEUE, chosen) == 2
        assert sorted(texts(take(broker, 2))) == ["1", "3"]
        kept = [letters[0], letters[2], letters[4]]
        assert broker.dead_letters(QUEUE) == kept
        assert broker.replay(QUEUE, chosen) == 0
        assert broker.replay(QUEUE, []) == 0
        assert broker.replay(QUEUE, ["no such id", "", "1-1", "-5"]) == 0
        assert broker.dead_letters(QUEUE) == kept

    def test_a_replayed_message_is_as_it_was_published(self, broker: Broker) -> None:
        broker.publish([message("one", size=3, priority=2, attempt=6)])
        _bury(broker, lease_one(broker), "why")
        assert broker.replay(QUEUE) == 1
        back = take(broker, 1)[0]
        assert (back.body, back.size, back.priority, back.attempt) == (b"one", 3, 2, 1)

    def test_a_replayed_message_can_die_again(self, broker: Broker) -> None:
        broker.publish([message("one")])
        for reason in ("first", "second"):
            _bury(broker, lease_one(broker), reason)
            assert [letter.reason for letter in broker.dead_letters(QUEUE)] == [reason]
            assert broker.replay(QUEUE) == 1
        assert take(broker, 1)[0].attempt == 1

    def test_many_dead_letters(self, broker: Broker) -> None:
        _bury_some(broker, 1500)
        assert len(broker.dead_letters(QUEUE, limit=1200)) == 1200
        assert broker.replay(QUEUE) == 1500
        assert len(take(broker, 1500)) == 1500


def _bury(broker: Broker, delivery: Delivery, reason: str) -> None:
    assert broker.settle(dead=[Dead(delivery, reason)]) == []


def _bury_some(broker: Broker, count: int) -> None:
    broker.publish([message(str(number)) for number in range(count)])
    buried = 0
    while buried < count:
        found = broker.lease([QUEUE], 500, PATIENCE_S)
        assert found, f"only {buried} of {count} came"
        assert broker.settle(dead=[Dead(delivery, "broken") for delivery in found]) == []
        buried += len(found)
