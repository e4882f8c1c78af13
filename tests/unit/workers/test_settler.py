"""How many endings share a call of the broker."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, Queue
from types import SimpleNamespace
from typing import cast

import pytest

from queue_runner.brokers.base import Broker, Delivery
from queue_runner.workers import settler as module
from queue_runner.workers.settler import Ending, Settler

_WITHIN_S = 30.0


def some(count: int) -> list[Ending]:
    return [Ending(Delivery("jobs.default", b"", 1, 0, 1, n)) for n in range(count)]


@contextmanager
def running(held: int, ended: int) -> Iterator[tuple[Settler, Queue[int]]]:
    """A settler for a broker that takes everything, and how many it settled with each call.

    ended: how many have, when it begins.
    """
    calls: Queue[int] = Queue()

    def settled(endings: Sequence[Ending]) -> None:
        calls.put(len(endings))

    broker = cast(Broker, SimpleNamespace(settle=lambda **_: []))
    settler = Settler(broker, settled, lambda: held)
    for ending in some(ended):
        settler.add(ending)
    thread = threading.Thread(target=settler.run)
    thread.start()
    yield settler, calls
    settler.finish(_WITHIN_S)
    thread.join(_WITHIN_S)
    assert not thread.is_alive()


def test_where_many_end_a_call_waits_until_it_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LINGER_LONG_S", 1000.0)
    with running(held=1000, ended=module._MANY) as (settler, calls):
        with pytest.raises(Empty):
            calls.get(timeout=5 * module._LINGER_S)
        for ending in some(module._ENOUGH):
            settler.add(ending)
        assert calls.get(timeout=_WITHIN_S) == module._ENOUGH


@pytest.mark.parametrize("count", [1, module._MANY - 1])
def test_where_few_end_none_waits_for_more(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LINGER_LONG_S", 1000.0)
    with running(held=1000, ended=count) as (_, calls):
        assert calls.get(timeout=_WITHIN_S) == count


def test_what_is_all_that_is_held_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LINGER_S", 1000.0)
    with running(held=30, ended=30) as (_, calls):
        assert calls.get(timeout=_WITHIN_S) == 30
