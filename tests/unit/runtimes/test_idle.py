"""Warm things that wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from queue_runner.workers.runtimes.idle import Idle

LONG_S = 1000.0


class Ended(list[str]):
    """Notes what was ended, and can wait for it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()

    def __call__(self, value: str) -> None:
        with self.changed:
            self.append(value)
            self.changed.notify_all()

    def await_all(self, values: set[str]) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: set(self) == values, 20)


@pytest.fixture
def ended() -> Ended:
    return Ended()


@pytest.fixture
def idle(ended: Ended) -> Iterator[Idle[str]]:
    made: Idle[str] = Idle("idle", 3, LONG_S, ended)
    yield made
    made.close()


def test_the_last_one_used_is_taken_first_and_once(idle: Idle[str], ended: Ended) -> None:
    for key, value in (("k", "old"), ("k", "new"), ("other", "o")):
        idle.put(key, value)
    assert [idle.take("k"), idle.take("k"), idle.take("k"), idle.take("other")] == [
        "new", "old", None, "o",
    ]  # fmt: skip
    assert not ended


def test_the_longest_idle_goes_where_there_are_too_many(idle: Idle[str], ended: Ended) -> None:
    for value in "abcde":
        idle.put("k", value)
    assert ended == ["a", "b"]


def test_what_nobody_wants_is_ended(ended: Ended) -> None:
    short: Idle[str] = Idle("idle", 3, 0.01, ended)
    short.put("k", "a")
    assert ended.await_all({"a"})
    # and the next, after a time in which there was none
    short.put("k", "b")
    assert ended.await_all({"a", "b"})
    short.close()
    assert ended == ["a", "b"]


def test_at_the_end_all_are_ended_and_those_that_come_later(idle: Idle[str], ended: Ended) -> None:
    idle.put("k", "a")
    idle.put("l", "b")
    idle.close()
    assert ended == ["a", "b"]
    idle.put("k", "late")
    assert ended == ["a", "b", "late"]
    assert idle.take("k") is None
