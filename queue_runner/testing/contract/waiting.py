"""A waiting lease: it hears of everything that becomes ready, whoever made it so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from queue_runner.brokers import Broker, Delivery, Retry
from queue_runner.testing.contract.bench import (
    OTHER,
    PATIENCE_S,
    QUEUE,
    Bench,
    assert_empty,
    in_thread,
    lease_one,
    message,
    texts,
)

#: Seconds that a lease may go on waiting after there is something: not a measure of speed, but far
#: below the time it was told to wait, so that one that only wakes at its end is found out.
_SOON_S = 8.0
_WAIT_S = 60.0


class WaitContract(Bench):
    def test_nothing_comes(self, broker: Broker) -> None:
        started = time.monotonic()
        assert broker.lease([QUEUE, OTHER], 5, 1.0) == []
        assert 0.9 <= time.monotonic() - started < 1.0 + _SOON_S

    @pytest.mark.parametrize("size", [1, 3, 5, 7, 100])
    def test_published_by_another(self, broker: Broker, other: Broker, size: int) -> None:
        waiting = _wait(broker, room=100)
        other.publish([message("small", queue="elsewhere"), message("new", size=size)])
        _take(broker, waiting, "new")
        assert texts(settled := other.lease(["elsewhere"], 1, PATIENCE_S)) == ["small"]
        assert other.settle(done=settled) == []

    def test_published_by_itself(self, broker: Broker) -> None:
        waiting = _wait(broker)
        broker.publish([message("new")])
        _take(broker, waiting, "new")

    def test_in_any_of_its_queues(self, broker: Broker, other: Broker) -> None:
        for queue in (QUEUE, OTHER):
            waiting = _wait(broker)
            other.publish([message(queue, queue=queue)])
            _take(broker, waiting, queue)

    def test_sizes_and_priorities_never_seen_before(self, broker: Broker, other: Broker) -> None:
        other.publish([message("too big", size=50)])
        waiting = _wait(broker, room=8)
        other.publish([message("also too big", size=9, priority=9)])
        other.publish([message("fits", size=6, priority=3)])
        _take(broker, waiting, "fits")
        left = other.lease([QUEUE], 5, PATIENCE_S)
        assert texts(left) == ["also too big", "too big"]
        assert other.settle(done=left) == []

    def test_what_becomes_due(self, broker: Broker, other: Broker) -> None:
        other.publish([message("later", delay_s=0.8)])
        waiting = _wait(broker)
        _take(broker, waiting, "later")

    def test_what_is_published_to_become_due_while_it_waits(
        self, broker: Broker, other: Broker
    ) -> None:
        other.publish([message("much later", delay_s=600.0)])
        waiting = _wait(broker)
        other.publish([message("later", delay_s=0.8)])
        _take(broker, waiting, "later")
        assert other.purge(QUEUE) == 1

    def test_somebody_elses_lease_lapses(self, broker: Broker, other: Broker) -> None:
        other.publish([message("one")])
        lease_one(other, lease_s=0.8)
        _take(broker, _wait(broker), "one", attempt=2)

    def test_a_lease_made_while_it_waits_lapses(self, broker: Broker, other: Broker) -> None:
        other.publish([message("big", size=5)])
        waiting = _wait(broker, room=2)
        held = other.lease([QUEUE], 1, PATIENCE_S, lease_s=0.5, room=5)
        assert texts(held) == ["big"]
        other.publish([message("small", size=2)])
        _take(broker, waiting, "small")
        _take(other, in_thread(lambda: other.lease([QUEUE], 1, _WAIT_S)), "big", attempt=2)

    def test_somebody_gives_back(self, broker: Broker, other: Broker) -> None:
        other.publish([message("one")])
        held = lease_one(other)
        waiting = _wait(broker)
        assert other.settle(retry=[Retry(held)]) == []
        _take(broker, waiting, "one", attempt=2)

    def test_somebody_gives_back_for_later(self, broker: Broker, other: Broker) -> None:
        other.publish([message("one")])
        held = lease_one(other)
        waiting = _wait(broker)
        assert other.settle(retry=[Retry(held, delay_s=0.5, counted=False)]) == []
        _take(broker, waiting, "one")

    def test_it_does_not_wait_for_its_limit(self, broker: Broker, other: Broker) -> None:
        waiting = _wait(broker)
        other.publish([message("only")])
        _take(broker, waiting, "only")

    def test_a_waiting_lease_keeps_nobody_else_of_its_connection_waiting(
        self, broker: Broker
    ) -> None:
        waiting = _wait(broker)
        broker.publish([message("mine", queue="elsewhere")])
        held = lease_one(broker, queue="elsewhere")
        assert broker.renew([held]) == []
        assert broker.settle(done=[held], publish=[message("last")]) == []
        _take(broker, waiting, "last")

    def test_each_message_wakes_someone(
        self, broker: Broker, open_broker: Callable[[], Broker]
    ) -> None:
        waiters = [open_broker() for _ in range(4)]
        waiting = [_wait(waiter, limit=1) for waiter in waiters]
        broker.publish([message(str(n)) for n in range(4)])
        got = sorted(text for future in waiting for text in texts(future.result(_SOON_S)))
        assert got == ["0", "1", "2", "3"]
        for waiter, future in zip(waiters, waiting, strict=True):
            assert waiter.settle(done=future.result()) == []
        assert_empty(broker)


def _wait(broker: Broker, room: int | None = None, limit: int = 10) -> Future[list[Delivery]]:
    """A lease that has begun to wait, as far as can be told from outside."""
    begun = threading.Event()

    def work() -> list[Delivery]:
        begun.set()
        return broker.lease([QUEUE, OTHER], limit, _WAIT_S, room=room)

    future = in_thread(work)
    begun.wait()
    time.sleep(0.3)  # nothing outside shows that it waits now; too early only makes the test easier
    assert not future.done()
    return future


def _take(broker: Broker, waiting: Future[list[Delivery]], text: str, attempt: int = 1) -> None:
    found = waiting.result(_SOON_S)
    assert [(d.body.decode(), d.attempt) for d in found] == [(text, attempt)]
    assert broker.settle(done=found) == []
