"""Settle: claims end once, after what goes out with them."""

from __future__ import annotations

import pytest

from queue_runner.brokers import Broker, Dead, Delivery, Retry
from queue_runner.testing.contract.bench import (
    OTHER,
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


class SettleContract(Bench):
    def test_done_is_gone(self, broker: Broker, other: Broker) -> None:
        broker.publish([message("one")])
        held = lease_one(broker, lease_s=0.5)
        assert broker.settle(done=[held]) == []
        assert other.lease([QUEUE], 1, 1.5) == []

    def test_twice_is_lost(self, broker: Broker) -> None:
        broker.publish([message("one")])
        held = lease_one(broker)
        assert broker.settle(done=[held]) == []
        assert broker.settle(done=[held]) == [held]
        assert broker.settle(dead=[Dead(held, "late")]) == [held]
        assert broker.renew([held]) == [held]
        assert broker.dead_letters(QUEUE) == []

    def test_a_counted_retry(self, broker: Broker) -> None:
        broker.publish([message("one", size=3, priority=2)])
        held = lease_one(broker)
        assert broker.settle(retry=[Retry(held)]) == []
        again = lease_one(broker)
        assert (again.body, again.size, again.priority, again.attempt) == (b"one", 3, 2, 2)
        assert broker.settle(done=[held]) == [held]
        assert broker.settle(done=[again]) == []

    def test_an_uncounted_retry(self, broker: Broker) -> None:
        broker.publish([message("one", attempt=2)])
        for _ in range(3):
            held = lease_one(broker)
            assert held.attempt == 2
            assert broker.settle(retry=[Retry(held, counted=False)]) == []
        assert take(broker, 1)[0].attempt == 2

    @pytest.mark.parametrize("counted", [True, False])
    def test_a_retry_later(self, broker: Broker, counted: bool) -> None:
        broker.publish([message("one")])
        held = lease_one(broker)
        assert broker.settle(retry=[Retry(held, delay_s=1.0, counted=counted)]) == []
        assert broker.lease([QUEUE], 1, 0.0) == []
        assert take(broker, 1)[0].attempt == 1 + counted

    def test_published_with_it(self, broker: Broker) -> None:
        broker.publish([message("job")])
        held = lease_one(broker)
        assert broker.settle(done=[held], publish=[message("result", queue=OTHER)]) == []
        assert texts(take(broker, 1, [OTHER])) == ["result"]
        assert_empty(broker)

    def test_published_though_the_claim_was_lost(self, broker: Broker) -> None:
        broker.publish([message("job")])
        old = lease_one(broker, lease_s=0.3)
        new = lease_one(broker)
        assert broker.settle(done=[old], publish=[message("result", queue=OTHER)]) == [old]
        assert texts(take(broker, 1, [OTHER])) == ["result"]
        assert broker.settle(done=[new]) == []

    def test_nothing_is_settled_when_the_publish_is_wrong(self, broker: Broker) -> None:
        broker.publish([message("job")])
        held = lease_one(broker)
        with pytest.raises(ValueError):
            broker.settle(done=[held], publish=[message("x", queue="not a name")])
        assert broker.settle(done=[held]) == []

    def test_all_at_once(self, broker: Broker) -> None:
        broker.publish([message(name) for name in ("done", "retry", "dead", "gone")])
        done, retry, dead, gone = broker.lease([QUEUE], 4, PATIENCE_S)
        assert broker.settle(done=[gone]) == []
        lost = broker.settle(
            done=[done, gone],
            retry=[Retry(retry)],
            dead=[Dead(dead, "why")],
            publish=[message("new", queue=OTHER, delay_s=0.3)],
        )
        assert lost == [gone]
        assert [(d.body, d.attempt) for d in take(broker, 1)] == [(b"retry", 2)]
        assert [d.reason for d in broker.dead_letters(QUEUE)] == ["why"]
        assert texts(take(broker, 1, [OTHER])) == ["new"]

    def test_many_at_once_of_several_queues(self, broker: Broker) -> None:
        total = 3000
        batch = [message(str(n), queue=QUEUE if n % 2 else OTHER) for n in range(total)]
        broker.publish(batch)
        held: list[Delivery] = []
        while len(held) < total:
            found = broker.lease([QUEUE, OTHER], total - len(held), PATIENCE_S)
            assert found, "some are missing"
            held += found
        assert sorted(map(int, texts(held))) == list(range(total))
        assert broker.renew(held) == []
        results = [message(f"r{n}", queue="results") for n in range(total)]
        assert broker.settle(done=held, publish=results) == []
        assert len(take(broker, total, ["results"])) == total
        eventually(lambda: broker.depth(QUEUE).ready == 0)
        assert_empty(broker, [QUEUE, OTHER])
