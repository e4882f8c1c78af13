"""What the contract's tests share: fixtures, and words for what nearly all of them do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import TypeVar

import pytest

from queue_runner.brokers import Broker, Delivery, Message, connect

T = TypeVar("T")

QUEUE = "jobs"
OTHER = "jobs.other-1"
#: Seconds; long enough that a busy machine never reaches it, short enough to see a hang.
PATIENCE_S = 30.0


class Bench:
    """Base of the contract's classes. A subclass provides `broker_url`."""

    @pytest.fixture
    def broker_url(self) -> str:
        raise NotImplementedError(
            "give the class a fixture broker_url: an empty namespace per test"
        )

    @pytest.fixture
    def open_broker(self, broker_url: str) -> Iterator[Callable[[], Broker]]:
        """Opens one more connection to the same namespace; all are closed at the end."""
        with ExitStack() as stack:
            yield lambda: stack.enter_context(connect(broker_url))

    @pytest.fixture
    def broker(self, open_broker: Callable[[], Broker]) -> Iterator[Broker]:
        broker = open_broker()
        yield broker
        assert_nothing_leased(open_broker())

    @pytest.fixture
    def other(self, open_broker: Callable[[], Broker]) -> Broker:
        """Another connection, as another process has it."""
        return open_broker()


def assert_nothing_leased(broker: Broker) -> None:
    if not broker.capabilities.counts_leased:
        return
    for queue in (QUEUE, OTHER):
        eventually(lambda queue=queue: broker.depth(queue).leased == 0)  # type: ignore[misc]


def eventually(probe: Callable[[], T], within_s: float = PATIENCE_S) -> T:
    """The first true answer of `probe`; for what a server does in its own time."""
    end = time.monotonic() + within_s
    while not (last := probe()):
        if time.monotonic() >= end:
            raise AssertionError(f"not within {within_s} s; last seen: {last!r}")
        time.sleep(0.02)
    return last


def message(body: str, **settings: object) -> Message:
    return Message(**{"queue": QUEUE, "body": body.encode(), **settings})  # type: ignore[arg-type]


def texts(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.body.decode() for delivery in deliveries]


def lease_one(broker: Broker, lease_s: float = 60.0, queue: str = QUEUE) -> Delivery:
    found = broker.lease([queue], 1, PATIENCE_S, lease_s=lease_s)
    assert len(found) == 1, f"nothing came within {PATIENCE_S} s"
    return found[0]


def take(broker: Broker, count: int, queues: Sequence[str] = (QUEUE,)) -> list[Delivery]:
    """Lease and settle until `count` have come."""
    taken: list[Delivery] = []
    while len(taken) < count:
        found = broker.lease(queues, min(500, count - len(taken)), PATIENCE_S)
        assert found, f"{len(taken)} of {count} came, then nothing for {PATIENCE_S} s"
        assert broker.settle(done=found) == []
        taken += found
    return taken


def assert_empty(broker: Broker, queues: Sequence[str] = (QUEUE,)) -> None:
    assert broker.lease(queues, 10, 0.3) == []


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Run `work` beside the test; its result or exception is in the future."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 (handed to whoever asks for the result)
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
