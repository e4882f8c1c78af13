"""Broadcasts: everyone who listens now hears them; nobody hears the past."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from queue_runner.brokers import Broker, Subscription
from queue_runner.testing.contract.bench import PATIENCE_S, Bench


class BroadcastContract(Bench):
    def test_everyone_hears_it(self, broker: Broker, open_broker: Callable[[], Broker]) -> None:
        others = [open_broker() for _ in range(2)]
        listeners = [one.subscribe(["control"]) for one in (broker, *others)]
        broker.broadcast("control", b"stop\0\xff")
        for listener in listeners:
            assert listener.get(PATIENCE_S) == ("control", b"stop\0\xff")
            assert listener.get(0.1) is None
            listener.close()

    def test_only_its_topics_in_order(self, broker: Broker, other: Broker) -> None:
        with broker.subscribe(["a", "b.c"]) as listener:
            for topic in ("a", "x", "b.c", "a"):
                other.broadcast(topic, topic.encode())
            assert _hear(listener, 3) == [("a", b"a"), ("b.c", b"b.c"), ("a", b"a")]
            assert listener.get(0.2) is None

    def test_several_on_one_connection(self, broker: Broker, other: Broker) -> None:
        with broker.subscribe(["a"]) as first, broker.subscribe(["a", "b"]) as second:
            other.broadcast("a", b"1")
            other.broadcast("b", b"2")
            assert _hear(first, 1) == [("a", b"1")]
            assert _hear(second, 2) == [("a", b"1"), ("b", b"2")]
            first.close()
            other.broadcast("a", b"3")
            assert _hear(second, 1) == [("a", b"3")]

    def test_nothing_from_before(self, broker: Broker, other: Broker) -> None:
        other.broadcast("a", b"past")
        with broker.subscribe(["a"]) as listener:
            other.broadcast("a", b"now")
            assert listener.get(PATIENCE_S) == ("a", b"now")

    def test_nobody_hears_it(self, broker: Broker) -> None:
        broker.broadcast("a", b"")

    def test_an_empty_body(self, broker: Broker) -> None:
        with broker.subscribe(["a"]) as listener:
            broker.broadcast("a", b"")
            assert listener.get(PATIENCE_S) == ("a", b"")

    def test_silence_ends_in_time(self, broker: Broker) -> None:
        with broker.subscribe(["a"]) as listener:
            started = time.monotonic()
            assert listener.get(0.5) is None
            assert 0.4 <= time.monotonic() - started < PATIENCE_S
            assert listener.get(0.0) is None

    def test_closing_a_subscription_twice(self, broker: Broker) -> None:
        listener = broker.subscribe(["a"])
        listener.close()
        listener.close()

    def test_bad_topics(self, broker: Broker) -> None:
        with pytest.raises(ValueError):
            broker.broadcast("not a name", b"")
        with pytest.raises(ValueError):
            broker.subscribe(["a", "*"])

    def test_many_broadcasts(self, broker: Broker, other: Broker) -> None:
        with broker.subscribe(["a"]) as listener:
            for number in range(500):
                other.broadcast("a", str(number).encode())
            heard = _hear(listener, 500)
        assert [int(body) for _, body in heard] == list(range(500))


def _hear(listener: Subscription, count: int) -> list[tuple[str, bytes]]:
    heard: list[tuple[str, bytes]] = []
    while len(heard) < count:
        one = listener.get(PATIENCE_S)
        assert one is not None, f"heard {len(heard)} of {count}, then nothing"
        heard.append(one)
    return heard
