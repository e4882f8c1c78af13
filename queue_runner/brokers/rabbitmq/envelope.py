"""Our messages as AMQP has them, and back."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from queue_runner.brokers.base import MAX_PRIORITY, DeadLetter, Delivery, Message
from queue_runner.brokers.checks import check_messages
from queue_runner.brokers.rabbitmq.chan import properties
from queue_runner.brokers.rabbitmq.foreign import too_long
from queue_runner.brokers.rabbitmq.outgoing import LaneProperties, before_id
from queue_runner.brokers.rabbitmq.topology import MAX_DELAY_S, Lane

_ATTEMPT, _REASON, _AT_MS = "qr-attempt", "qr-reason", "qr-at-ms"
_PRIORITY, _SIZE = "qr-priority", "qr-size"

#: All headers have to fit into one frame, by default of 128 KiB.
_MAX_REASON_CHARACTERS = 8000

#: What can be counted up to, and the last second of the year 9999.
_MOST, _LAST = 2**31 - 1, 253_402_300_799.0
_MOST_MS = int(_LAST * 1000)

_this_process = uuid.uuid4().hex
_numbers = itertools.count(1)


#: Beginnings of properties that are kept.
_KEPT = 4096


class Letter(NamedTuple):
    """One message on its way out, to `routing_key` at `exchange`."""

    routing_key: str
    body: bytes
    properties: Any
    exchange: str = ""
    lane: Lane | None = None
    delay_ms: int = 0


def check(messages: Sequence[Message]) -> None:
    """Raises `TooBig` or `ValueError` for what must not be published."""
    check_messages(messages)
    for message in messages:
        if message.size >= 2**31 or message.attempt >= 2**31:
            raise ValueError(f"size {message.size} or attempt {message.attempt} is beyond 31 bits")
        check_delay(message.delay_s)


def check_delay(delay_s: float) -> None:
    if not 0 <= delay_s <= MAX_DELAY_S:
        raise ValueError(f"delay_s={delay_s} is not from 0 to {MAX_DELAY_S:.0f} seconds")


def lane_of(message: Message | DeadLetter | Delivery) -> Lane:
    return Lane(message.queue, message.priority, message.size)


def job_properties(lane: Lane, attempt: int) -> Any:
    return LaneProperties(new_id(), _before_id(lane, attempt))


def dead_properties(lane: Lane, attempt: int, reason: str) -> Any:
    text = reason.encode("utf-8", "replace").decode()[:_MAX_REASON_CHARACTERS]
    more = {_REASON: text, _AT_MS: int(time.time() * 1000)}
    return properties(
        delivery_mode=2, message_id=new_id(), headers={**_headers(lane, attempt), **more}
    )


def attempt_of(headers: Mapping[str, object] | None, redelivered: bool) -> int:
    """The attempt that a delivery with these headers is.

    A quorum queue counts how often it handed a message out before. 4.3 counts in `x-delivery-count`
    only failures, and everything in `x-acquired-count`; older ones know only the former.
    https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling
    """
    known = headers if isinstance(headers, dict) else {}
    attempt = _number(known.get(_ATTEMPT), 1)
    # a message that was dead-lettered brings the count of the queue it was in before
    if redelivered:
        attempt += _number(known.get("x-acquired-count", known.get("x-delivery-count")), 1)
    return max(1, min(attempt, _MOST))


def dead_letter(queue: str, props: Any, body: bytes, routing_key: str) -> DeadLetter:
    headers = props.headers if isinstance(props.headers, dict) else {}
    reason = too_long(props) or headers.get(_REASON)
    if not isinstance(reason, str):
        # the server moved it: `delivery_limit`, or somebody else did
        reason = f"dead-lettered by RabbitMQ: {headers.get('x-first-death-reason', 'unknown')}"
    return DeadLetter(
        id=props.message_id or routing_key,
        queue=queue,
        body=body,
        size=max(1, min(_number(headers.get(_SIZE), 1), _MOST)),
        priority=min(_number(headers.get(_PRIORITY), 0), MAX_PRIORITY),
        attempt=_number(headers.get(_ATTEMPT), 1),
        reason=reason,
        at=min(_number(headers.get(_AT_MS), 0) / 1000, _LAST),
    )


def new_id() -> str:
    return f"{_this_process}-{next(_numbers)}"


@lru_cache(_KEPT)
def _before_id(lane: Lane, attempt: int) -> bytes:
    return before_id(_headers(lane, attempt))


def _headers(lane: Lane, attempt: int) -> dict[str, int]:
    return {_ATTEMPT: attempt, _PRIORITY: lane.priority, _SIZE: lane.size}


def _number(value: object, default: int) -> int:
    """Others may have written it."""
    return min(int(value), _MOST_MS) if isinstance(value, int) and value >= 0 else default
