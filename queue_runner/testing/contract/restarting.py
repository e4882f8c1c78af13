"""The server goes away and comes back: nothing is lost, and nobody has to connect again."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from queue_runner.brokers import Broker, Dead
from queue_runner.testing.contract.bench import (
    OTHER,
    PATIENCE_S,
    QUEUE,
    Bench,
    in_thread,
    lease_one,
    message,
    take,
    texts,
)


class RestartContract(Bench):
    @pytest.fixture
    def restart_server(self) -> Callable[[], None]:
        raise NotImplementedError("give the class a fixture restart_server: a callable")

    def test_what_was_published_is_there(
        self, broker: Broker, restart_server: Callable[[], None]
    ) -> None:
        names = [str(number) for number in range(1000)]
        broker.publish([message(name) for name in names])
        broker.publish([message("late", queue=OTHER, delay_s=1.0)])
        restart_server()
        assert texts(take(broker, 1000)) == names
        assert texts(take(broker, 1, [OTHER])) == ["late"]

    def test_dead_letters_are_there(
        self, broker: Broker, restart_server: Callable[[], None]
    ) -> None:
        broker.publish([message("one")])
        assert broker.settle(dead=[Dead(lease_one(broker), "why")]) == []
        restart_server()
        assert [letter.reason for letter in broker.dead_letters(QUEUE)] == ["why"]
        assert broker.replay(QUEUE) == 1
        assert texts(take(broker, 1)) == ["one"]

    def test_what_was_leased_comes_back(
        self, broker: Broker, restart_server: Callable[[], None]
    ) -> None:
        broker.publish([message(str(number)) for number in range(20)])
        held = broker.lease([QUEUE], 20, PATIENCE_S, lease_s=1.0)
        restart_server()
        back = take(broker, len(held))
        assert sorted(texts(back)) == sorted(texts(held))
        assert {delivery.attempt for delivery in back} == {2}

    def test_what_was_settled_stays_settled(
        self, broker: Broker, restart_server: Callable[[], None]
    ) -> None:
        broker.publish([message("done"), message("left")])
        assert texts(take(broker, 1)) == ["done"]
        restart_server()
        assert texts(take(broker, 1)) == ["left"]
        assert broker.lease([QUEUE], 1, 0.5) == []

    def test_every_call_goes_on(self, broker: Broker, restart_server: Callable[[], None]) -> None:
        restart_server()
        broker.publish([message("one")])
        restart_server()
        held = lease_one(broker)
        assert broker.renew([held]) == []
        assert broker.settle(done=[held], publish=[message("two", queue=OTHER)]) == []
        restart_server()
        assert broker.depth(QUEUE).dead == 0
        assert texts(take(broker, 1, [OTHER])) == ["two"]

    def test_a_waiting_lease_outlives_it(
        self, broker: Broker, other: Broker, restart_server: Callable[[], None]
    ) -> None:
        broker.depth(QUEUE)
        waiting = in_thread(lambda: broker.lease([QUEUE], 1, 90.0))
        time.sleep(0.3)  # nothing outside shows that it waits now
        restart_server()
        other.publish([message("one")])
        found = waiting.result(2 * PATIENCE_S)
        assert texts(found) == ["one"]
        assert broker.settle(done=found) == []

    def test_a_subscription_outlives_it(
        self, broker: Broker, other: Broker, restart_server: Callable[[], None]
    ) -> None:
        with broker.subscribe(["a"]) as listener:
            restart_server()
            heard = None
            end = time.monotonic() + PATIENCE_S
            while heard is None and time.monotonic() < end:
                other.broadcast("a", b"again")
                heard = listener.get(0.2)
            assert heard == ("a", b"again")
