"""RabbitMQ, where calls follow each other at once, each for the one message that comes next."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from queue_runner.brokers import Broker, Message, connect
from queue_runner.brokers.rabbitmq import consumers, spares
from queue_runner.brokers.rabbitmq.adapter import RabbitBroker
from queue_runner.brokers.rabbitmq.chan import Chan
from queue_runner.brokers.rabbitmq.envelope import Letter
from queue_runner.testing.contract.bench import PATIENCE_S, eventually

LANES = [(0, 1), (1, 1), (0, 2), (1, 2)]


@pytest.fixture
def broker(rabbitmq_url: str) -> Iterator[Broker]:
    with connect(rabbitmq_url) as broker:
        yield broker


@pytest.fixture
def other(rabbitmq_url: str) -> Iterator[Broker]:
    with connect(rabbitmq_url) as broker:
        yield broker


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers stay for longer than a busy machine takes from one call to the next."""
    monkeypatch.setattr(consumers, "_AT_ONCE_S", 5.0)


def in_a_row(broker: Broker, other: Broker, count: int = 5) -> None:
    """Wait for `count` messages of each lane, one after the other."""
    with ThreadPoolExecutor(1) as pool:
        for number in range(count * len(LANES)):
            priority, size = LANES[number % len(LANES)]
            waiting = pool.submit(broker.lease, ["q"], 5, PATIENCE_S)
            other.publish([Message("q", b"%d" % number, priority=priority, size=size)])
            (taken,) = waiting.result(2 * PATIENCE_S)
            assert (taken.body, taken.attempt) == (b"%d" % number, 1)
            assert broker.settle(done=[taken]) == []


@pytest.mark.usefixtures("unhurried")
def test_they_neither_ask_nor_open_anything(
    broker: Broker, other: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_a_row(broker, other)
    asked: Counter[str] = Counter()
    call = Chan._call

    async def counted(self: Chan, request: str, *rest: object, **options: object) -> Any:
        asked[request] += 1
        return await call(self, request, *rest, **options)

    monkeypatch.setattr(Chan, "_call", counted)
    in_a_row(broker, other)
    # the one of each settlement that has the server answer
    assert asked == {"basic_qos": 5 * len(LANES)}


@pytest.mark.usefixtures("unhurried")
def test_what_comes_when_they_stop_is_others_and_no_attempt_is_counted(
    broker: Broker, other: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # before they are closed, copies would come back to them; one that came just then would be counted
    monkeypatch.setattr(spares, "_KEEP_S", 2 * PATIENCE_S)
    in_a_row(broker, other)
    other.publish([Message("q", b"%d" % n, priority=p, size=s) for n, (p, s) in enumerate(LANES)])
    eventually(lambda: other.depth("q").ready == 0)
    # who waits for the first and is sent several may have the others counted; so all are there first
    eventually(lambda: other.depth("q").ready == len(LANES))
    found = other.lease(["q"], len(LANES), PATIENCE_S)
    assert [each.attempt for each in found] == [1] * len(LANES)
    assert other.settle(done=found) == []


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("counted", [True, False])
def test_what_is_here_and_nobodys_counts_as_ready(
    broker: Broker, other: Broker, counted: bool
) -> None:
    in_a_row(broker, other)
    other.publish([Message("q", b"%d%d" % lane, priority=lane[0], size=lane[1]) for lane in LANES])
    eventually(lambda: other.depth("q").ready == 0)
    if counted:
        assert broker.depth("q").ready == len(LANES)
    else:
        assert broker.purge("q") == len(LANES)
        assert other.depth("q").ready == 0


def test_what_comes_to_consumers_that_are_being_closed_counts_as_ready(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spares, "_KEEP_S", 2 * PATIENCE_S)
    count, over = 9, threading.Event()

    def wait_for_others() -> None:
        while not over.is_set():
            assert broker.lease(["others"], 1, 0.002) == []

    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        stack.callback(over.set)
        waiting = pool.submit(wait_for_others)
        for wanted in [1, 2, 4, 6] * 25:
            broker.publish([Message("q", b"")] * count)
            left = count
            for _ in range(2):
                taken = broker.lease(["q"], wanted, PATIENCE_S)
                assert broker.settle(done=taken) == []
                left -= len(taken)
            # the server takes a moment to return what it has sent to a consumer just when that was closed
            eventually(lambda left=left: broker.depth("q").ready == left)  # type: ignore[misc]
            assert broker.purge("q") == left
        over.set()
        waiting.result(PATIENCE_S)


@pytest.mark.usefixtures("unhurried")
def test_a_close_that_meets_what_is_on_its_way_back_leaves_no_copy(
    broker: Broker, other: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(broker, RabbitBroker)
    copied, post = threading.Event(), broker._machine.post
    send = post.send

    async def slowly(letters: Sequence[Letter]) -> None:
        await send(letters)
        copied.set()
        await asyncio.sleep(0.5)  # until the server confirms it

    in_a_row(broker, other)
    monkeypatch.setattr(post, "send", slowly)
    other.publish([Message("q", b"only")])
    assert copied.wait(PATIENCE_S)  # nobody came back for it
    broker.close()
    eventually(lambda: other.depth("q").ready == 1)


@pytest.mark.usefixtures("unhurried")
def test_of_what_came_meanwhile_the_first_is_the_first(broker: Broker, other: Broker) -> None:
    in_a_row(broker, other)
    other.publish([Message("q", b"%d%d" % lane, priority=lane[0], size=lane[1]) for lane in LANES])
    eventually(lambda: other.depth("q").ready == 0)
    taken = [broker.lease(["q"], 1, PATIENCE_S)[0] for _ in LANES]
    assert [each.body for each in taken] == [b"12", b"11", b"02", b"01"]
    assert broker.settle(done=taken) == []


@pytest.mark.usefixtures("unhurried")
def test_what_does_not_fit_any_more_is_left_to_others(broker: Broker, other: Broker) -> None:
    in_a_row(broker, other)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(broker.lease, ["q"], 5, PATIENCE_S, room=1)
        other.publish([Message("q", b"large", size=2)])
        (taken,) = other.lease(["q"], 1, PATIENCE_S)
        # the server may have counted it before its consumer was closed: an attempt is an upper bound
        assert taken.body == b"large"
        assert taken.attempt <= 2
        other.publish([Message("q", b"small")])
        (small,) = waiting.result(2 * PATIENCE_S)
    assert small.body == b"small"
    assert (broker.settle(done=[small]), other.settle(done=[taken])) == ([], [])


@pytest.mark.parametrize("room", [None, 3])
def test_whatever_comes_when_each_is_taken_once(
    broker: Broker, other: Broker, rabbitmq_url: str, room: int | None
) -> None:
    randomly, count = random.Random(7), 400
    taken: Counter[bytes] = Counter()
    over = threading.Event()

    def take(broker: Broker) -> None:
        mine = random.Random(count)
        while not over.is_set():
            found = broker.lease(["q"], 50, 0.2, room=room)
            time.sleep(mine.choice([0.0, 0.0, 0.005, 0.05]))  # as long as something is done with it
            assert broker.settle(done=found) == []
            taken.update(each.body for each in found)

    with ThreadPoolExecutor(2) as pool, connect(rabbitmq_url) as third:
        takers = [pool.submit(take, each) for each in (broker, third)]
        sent = 0
        while sent < count:
            lanes = randomly.choices(LANES, k=min(randomly.choice([1, 1, 1, 7]), count - sent))
            other.publish(
                [
                    Message("q", b"%d" % (sent + n), priority=p, size=s)
                    for n, (p, s) in enumerate(lanes)
                ]
            )
            sent += len(lanes)
            time.sleep(randomly.choice([0.0, 0.002, 0.01]))  # a rhythm, which nothing depends on
        eventually(lambda: len(taken) == count or any(each.done() for each in takers))
        over.set()
        for each in takers:
            each.result(PATIENCE_S)
    assert set(taken.values()) == {1}
    eventually(lambda: other.depth("q").ready == 0)
