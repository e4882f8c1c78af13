"""What every adapter checks before it sends anything."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache

from queue_runner.brokers.base import MAX_BODY_BYTES, MAX_PRIORITY, Message
from queue_runner.errors import TooBig

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


def check_name(name: str, what: str = "queue") -> str:
    """A queue, topic or prefix; raises `ValueError`."""
    if not isinstance(name, str) or not _is_name(name):
        raise ValueError(f"{what} {name!r:.120}: expected 1 to 100 characters out of A-Za-z0-9._-")
    return name


@lru_cache(4096)  # it is asked for every message, and there are few
def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def check_messages(messages: Sequence[Message]) -> None:
    """Raises `ValueError` or `TooBig` for the first message that breaks the contract."""
    for message in messages:
        check_name(message.queue)
        _check_types(message)
        if len(message.body) > MAX_BODY_BYTES:
            raise TooBig(
                f"a message of {len(message.body)} bytes for queue {message.queue!r}; the limit is"
                f" {MAX_BODY_BYTES}. Put bulk data into the store."
            )
        if not (message.size >= 1 and 0 <= message.priority <= MAX_PRIORITY):
            raise ValueError(
                f"a message for queue {message.queue!r} has size {message.size} and priority"
                f" {message.priority}; expected at least 1, and 0 to {MAX_PRIORITY}"
            )
        if not (0 <= message.delay_s < math.inf and message.attempt >= 1):
            raise ValueError(
                f"a message for queue {message.queue!r} has delay {message.delay_s} s and attempt"
                f" {message.attempt}; expected at least 0, and at least 1"
            )


def _check_types(message: Message) -> None:
    # a fraction, a bool or a str would reach the server as text that no consumer can read back
    if not isinstance(message.body, bytes):
        raise ValueError(
            f"a message for queue {message.queue!r} has a body of type {type(message.body).__name__};"
            " expected bytes"
        )
    if not (type(message.size) is type(message.priority) is type(message.attempt) is int):
        raise ValueError(
            f"a message for queue {message.queue!r} has size {message.size!r}, priority"
            f" {message.priority!r} and attempt {message.attempt!r}; expected whole numbers"
        )


def check_lease(queues: Sequence[str], limit: int, lease_s: float) -> None:
    for queue in queues:
        check_name(queue)
    if not queues or limit < 1 or not 0 < lease_s < math.inf:
        raise ValueError("a lease names a queue, a limit of at least 1 and a time above 0 s")
