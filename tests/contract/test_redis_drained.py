"""Redis, where calls follow each other: one that waits need not ask whether there is something, if the one
before it has just taken all that there was.

Here a waiting call looks again after a minute only, so that what it should have looked for is not found late
but never.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from queue_runner.brokers import Broker, Delivery, Message, Retry, connect
from queue_runner.brokers.redis import adapter
from queue_runner.brokers.redis.link import Command, Link
from queue_runner.errors import BrokerUnavailable

PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "_LOOK_S", 60.0)


@pytest.fixture
def broker(redis_url: str) -> Iterator[Broker]:
    with connect(redis_url) as broker:
        yield broker


@pytest.fixture
def other(redis_url: str) -> Iterator[Broker]:
    with connect(redis_url) as broker:
        yield broker


def _leased(broker: Broker, *queues: str, limit: int = 5, **options: Any) -> list[bytes]:
    return [each.body for each in broker.lease(queues or ["q"], limit, PATIENCE_S, **options)]


def _nothing(broker: Broker, *queues: str, **options: Any) -> None:
    assert broker.lease(queues or ["q"], 5, 0.05, **options) == []


def test_one_after_the_other_is_asked_for_once(
    broker: Broker, other: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[int] = Counter()
    ask = Link._ask

    def counted(
        self: Link, end: float, commands: Sequence[Command], *rest: Any, **more: Any
    ) -> Any:
        asked[len(commands)] += 1
        return ask(self, end, commands, *rest, **more)

    def next_one(number: int) -> Delivery:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(broker.lease, ["q"], 5, PATIENCE_S)
            other.publish([Message("q", b"%d" % number)])
            (found,) = waiting.result(PATIENCE_S)
        return found

    broker.settle(done=[next_one(0)])
    monkeypatch.setattr(Link, "_ask", counted)
    for number in range(1, 11):
        found = next_one(number)
        assert (found.body, found.attempt) == (b"%d" % number, 1)
        broker.settle(done=[found])
    # each sent and settled; waited for and leased, together
    assert asked == {1: 20, 2: 10}


def test_a_server_that_has_forgotten_its_scripts_meanwhile(broker: Broker, other: Broker) -> None:
    _nothing(broker)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_leased, broker)
        await_blocked(other)
        link = other._link  # type: ignore[attr-defined]
        link.call(time.monotonic() + PATIENCE_S, "SCRIPT", "FLUSH")
        other.publish([Message("q", b"one")])
        assert waiting.result(PATIENCE_S) == [b"one"]


def test_one_that_went_away_while_it_waited_is_given_nothing(redis_url: str, other: Broker) -> None:
    with ThreadPoolExecutor(1) as pool:
        with connect(redis_url) as gone:
            waiting = pool.submit(gone.lease, ["q"], 5, PATIENCE_S)
            await_blocked(other)
        with pytest.raises(BrokerUnavailable):
            waiting.result(PATIENCE_S)
    await_blocked(other, count=0)
    other.publish([Message("q", b"one")])
    (found,) = other.lease(["q"], 5, PATIENCE_S)
    assert (found.body, found.attempt) == (b"one", 1)


def await_blocked(broker: Broker, count: int = 1) -> None:
    link = broker._link  # type: ignore[attr-defined]
    end = time.monotonic() + PATIENCE_S
    while f"blocked_clients:{count}\r\n".encode() not in link.call(end, "INFO", "clients"):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_comes_between_two_calls(broker: Broker, other: Broker) -> None:
    _nothing(broker)
    other.publish([Message("q", b"one")])
    assert _leased(broker) == [b"one"]
    other.publish([Message("q", b"two"), Message("q", b"three")])
    assert _leased(broker) == [b"two", b"three"]


def test_a_call_that_does_not_wait_asks(broker: Broker, other: Broker) -> None:
    _nothing(broker)
    other.publish([Message("q", b"one")])
    assert [each.body for each in broker.lease(["q"], 1, 0.0)] == [b"one"]


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ({"room": 1}, {"room": 2}),
        ({"room": 1}, {}),
        ({"max_size": 1}, {"max_size": 2}),
        ({"max_size": 1}, {}),
        ({"room": 1, "max_size": 5}, {"room": 5, "max_size": 2}),
    ],
)
def test_what_did_not_fit_is_found_where_it_fits(
    broker: Broker, other: Broker, narrow: dict[str, int], wide: dict[str, int]
) -> None:
    other.publish([Message("q", b"large", size=2)])
    _nothing(broker, **narrow)
    assert _leased(broker, **wide) == [b"large"]


def test_what_there_was_no_room_for_any_more(broker: Broker, other: Broker) -> None:
    sizes = {b"small": 1, b"large": 2, b"larger": 3}
    other.publish([Message("q", body, size=size) for body, size in sizes.items()])
    assert _leased(broker, room=4) == [b"larger", b"small"]
    assert _leased(broker, room=2) == [b"large"]


def test_what_was_more_than_asked_for(broker: Broker, other: Broker) -> None:
    other.publish([Message("q", b"%d" % number) for number in range(3)])
    assert _leased(broker, limit=2) == [b"0", b"1"]
    assert _leased(broker, limit=2) == [b"2"]


def test_what_was_more_than_an_answer_holds(broker: Broker, other: Broker) -> None:
    bodies = [bytes([number]) * 3_000_000 for number in range(4)]
    other.publish([Message("q", body) for body in bodies])
    found: list[bytes] = []
    while len(found) < len(bodies):
        found += _leased(broker)
    assert found == bodies


def test_other_queues_are_others(broker: Broker, other: Broker) -> None:
    other.publish([Message("r", b"one"), Message("r", b"two")])
    _nothing(broker, "q")
    assert _leased(broker, "q", "r", limit=1) == [b"one"]
    _nothing(broker, "q")
    assert _leased(broker, "r") == [b"two"]


def test_a_claim_that_lapses_between(broker: Broker, other: Broker) -> None:
    other.publish([Message("q", b"one")])
    other.lease(["q"], 1, PATIENCE_S, lease_s=0.5)
    _nothing(broker)
    (again,) = broker.lease(["q"], 1, PATIENCE_S)
    assert (again.body, again.attempt) == (b"one", 2)


def test_what_was_to_come_later(broker: Broker, other: Broker) -> None:
    _nothing(broker)
    other.publish([Message("q", b"later", delay_s=0.3)])
    assert _leased(broker) == [b"later"]
    other.publish([Message("q", b"one"), Message("q", b"later", delay_s=0.3)])
    assert _leased(broker) == [b"one"]
    assert _leased(broker) == [b"later"]


def test_what_is_given_back(broker: Broker, other: Broker) -> None:
    other.publish([Message("q", b"one")])
    (held,) = other.lease(["q"], 1, PATIENCE_S)
    _nothing(broker)
    other.settle(retry=[Retry(held)])
    assert _leased(broker) == [b"one"]
