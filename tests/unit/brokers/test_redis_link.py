"""What the adapter for Redis says when its time is over."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from queue_runner.brokers.redis.address import parse
from queue_runner.brokers.redis.failures import Passing, Unanswered
from queue_runner.brokers.redis.link import Link
from queue_runner.errors import BrokerUnavailable


def failing(*errors: Passing) -> Callable[[], None]:
    """Raises one after the other, the last of them when the deadline has passed."""
    left = list(errors)

    def work() -> None:
        error = left.pop(0)
        if not left:
            time.sleep(0.2)
        raise error

    return work


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ([Passing("out of memory"), Unanswered("no answer")], "out of memory"),
        ([Passing("out of memory"), Passing("still loading")], "still loading"),
        ([Unanswered("no answer")], "no answer"),
    ],
)
def test_what_the_deadline_cut_short_does_not_hide_what_was_answered(
    errors: list[Passing], told: str
) -> None:
    link = Link(parse("redis://localhost:1/0"))
    with pytest.raises(BrokerUnavailable, match=told):
        link.trying(time.monotonic() + 0.1, failing(*errors))
