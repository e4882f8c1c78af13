"""Types and limits of every request's arguments: what a stranger may send, nothing else gets further."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from queue_runner.brokers.base import MAX_BODY_BYTES, MAX_PRIORITY
from queue_runner.brokers.zeromq.protocol import CHUNK_MESSAGES

#: SQLite's largest integer.
_MAX_INT = 2**63 - 1
#: Of what is added to: attempts, sizes.
_MAX_COUNT = 2**31 - 1
#: Queues or topics of one request.
_MAX_NAMES = 1000
#: Receipts of one request, of which a stranger's frame could hold as many as it has bytes.
_MAX_RECEIPTS = 1_000_000
#: A lease request waits in the server's memory.
_MAX_WAIT_S = 86400.0
_MAX_SECONDS = 10 * 365 * 86400.0

Check = Callable[[Any], bool]


def check_arguments(operation: str, arguments: list[Any]) -> None:
    """Raises `ValueError` that names the operation and the argument."""
    expected = _ARGUMENTS[operation]
    if len(arguments) != len(expected):
        raise ValueError(f"{operation}: expected {len(expected)} arguments, got {len(arguments)}")
    for place, (check, value) in enumerate(zip(expected, arguments, strict=True), 1):
        if not check(value):
            raise ValueError(f"{operation}: argument {place} is not what it should be")


def _integer(low: int, high: int = _MAX_INT) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def _seconds(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= _MAX_SECONDS


def _wait(value: Any) -> bool:
    return _seconds(value) and value <= _MAX_WAIT_S


def _name(value: Any) -> bool:
    """A queue or topic with its prefix, `PREFIX:NAME`."""
    return type(value) is str and 0 < len(value) <= 201 and value.isprintable()


def _bytes(value: Any) -> bool:
    return type(value) is bytes and len(value) <= MAX_BODY_BYTES


def _text(value: Any) -> bool:
    return type(value) is str and len(value) <= 100_000


def _bool(value: Any) -> bool:
    return type(value) is bool


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _list_of(check: Check, most: int = _MAX_INT) -> Check:
    return lambda value: type(value) is list and len(value) <= most and all(map(check, value))


def _row(*checks: Check) -> Check:
    count = len(checks)

    def check(value: Any) -> bool:
        return (
            type(value) is list
            and len(value) == count
            and all(check(item) for check, item in zip(checks, value, strict=True))
        )

    return check


def _bundle(value: Any) -> bool:
    """Messages that differ in nothing but their bodies."""
    if type(value) is not list or len(value) != 6:
        return False
    queue, size, priority, delay_s, attempt, bodies = value
    return (
        type(size) is type(priority) is type(attempt) is int
        and 1 <= size <= _MAX_COUNT
        and 0 <= priority <= MAX_PRIORITY
        and 1 <= attempt <= _MAX_COUNT
        and _name(queue)
        and _seconds(delay_s)
        and type(bodies) is list
        and set(map(type, bodies)) == {bytes}
        and max(map(len, bodies)) <= MAX_BODY_BYTES
    )


def _bundles(value: Any) -> bool:
    """No more messages than clients send at once: an empty body takes two bytes of a frame."""
    return (
        type(value) is list
        and all(map(_bundle, value))
        and sum(len(bundle[-1]) for bundle in value) <= CHUNK_MESSAGES
    )


def _receipts(value: Any) -> bool:
    """Numbers, and a token for each."""
    if type(value) is not list or len(value) != 2:
        return False
    numbers, tokens = value
    return (
        _ids(numbers)
        and _ids(tokens)
        and len(numbers) == len(tokens)
        and len(numbers) <= _MAX_RECEIPTS
    )


def _ids(value: Any) -> bool:
    """As a `_list_of` would, without a call for each."""
    if type(value) is not list:
        return False
    return not value or (
        set(map(type, value)) == {int} and 0 <= min(value) <= max(value) <= _MAX_INT
    )


_id = _integer(0)
_names = _list_of(_name, _MAX_NAMES)

_ARGUMENTS: dict[str, tuple[Check, ...]] = {
    "publish": (_bundles,),
    "lease": (
        _names,
        _integer(1, 100_000),
        _wait,
        _seconds,
        _or_none(_integer(-_MAX_INT)),
        _or_none(_integer(-_MAX_INT)),
    ),
    "forget": (lambda value: type(value) is bytes,),
    "renew": (_receipts, _seconds),
    "settle": (
        _receipts,
        _list_of(_row(_id, _id, _seconds, _bool)),
        _list_of(_row(_id, _id, _text)),
        _bundles,
    ),
    "broadcast": (_name, _bytes),
    "subscribe": (_names,),
    "ping": (),
    "depth": (_name,),
    "dead-letters": (_name, _integer(0, 100_000), _integer(0)),
    "replay": (_name, _or_none(_ids)),
    "purge": (_name,),
}
