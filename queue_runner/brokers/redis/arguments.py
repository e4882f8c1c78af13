"""Between our words and those of the scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, TypeVar

from queue_runner.brokers.base import Dead, DeadLetter, Delivery, Message, Retry

T = TypeVar("T")

#: One script call handles at most so much, for the server does nothing else meanwhile.
CHUNK = 1000
_CHUNK_BYTES = 4 * 1024 * 1024
_REASON_CHARACTERS = 8000
_LONGEST_S = 10 * 365 * 86400.0

_ALL_BUT_BODY = attrgetter("queue", "priority", "size", "delay_s", "attempt")
_QUEUE_AND_CLASS = itemgetter(0, 1)


class _Receipt(NamedTuple):
    claim_class: bytes
    held: bytes  # ID:TOKEN


#: How one claim is to end; a delivery alone is done.
End = Delivery | Retry | Dead


class Settlement(NamedTuple):
    """What one call of settle.lua takes: claims that are done, to be retried and dead; how many of each there
    are; the arguments of them all.
    """

    claims: Sequence[Delivery]
    counts: tuple[int, int, int]
    arguments: Sequence[Any]


def settlement(ends: Sequence[End]) -> Settlement:
    """Raises `ValueError` for a delivery of another broker."""
    done = [one for one in ends if isinstance(one, Delivery)]
    retry = [one for one in ends if isinstance(one, Retry)]
    dead = [one for one in ends if isinstance(one, Dead)]
    arguments = [
        *_done(done),
        *chain.from_iterable(map(_retry, retry)),
        *chain.from_iterable(map(_dead, dead)),
    ]
    claims = [*done, *(one.delivery for one in retry), *(one.delivery for one in dead)]
    return Settlement(claims, (len(done), len(retry), len(dead)), arguments)


def _done(deliveries: Sequence[Delivery]) -> Iterator[Any]:
    for (queue, claim_class), claims in groupby(map(claim_of, deliveries), _QUEUE_AND_CLASS):
        held = [claim[2] for claim in claims]
        yield from (queue, claim_class, len(held))
        yield from held


def _retry(one: Retry) -> Sequence[Any]:
    return (*claim_of(one.delivery), milliseconds(one.delay_s), int(one.counted))


def _dead(one: Dead) -> Sequence[Any]:
    reason = one.reason[:_REASON_CHARACTERS].encode("utf-8", "replace")
    return (*claim_of(one.delivery), reason)


def claim_of(delivery: Delivery) -> tuple[str, bytes, bytes]:
    receipt = delivery.receipt
    if not isinstance(receipt, _Receipt):
        raise ValueError("a delivery of another broker")
    return (delivery.queue, receipt.claim_class, receipt.held)


def published(messages: Sequence[Message]) -> Iterator[Any]:
    """As `publish` in common.lua takes them."""
    for (queue, priority, size, delay_s, attempt), some in groupby(messages, _ALL_BUT_BODY):
        bodies = [message.body for message in some]
        yield from (queue, priority, size, milliseconds(delay_s), attempt, len(bodies))
        yield from bodies


def deliveries_of(queues: Sequence[str], row: list[Any]) -> Iterator[Delivery]:
    """Of one queue and class, from what lease.lua returns."""
    number, claim_class, *rest = row
    queue = queues[number]
    priority, size = map(int, claim_class.split(b":")[:2])
    for held, attempt, body in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        yield Delivery(queue, body, size, priority, attempt, _Receipt(claim_class, held))


def letter_of(queue: str, letter_id: bytes, fields: list[bytes]) -> DeadLetter:
    field = dict(zip(fields[::2], fields[1::2], strict=True))
    return DeadLetter(
        id=letter_id.decode().partition("-")[0],
        queue=queue,
        body=field.get(b"body", b""),
        size=_number(field.get(b"size"), 1),
        priority=_number(field.get(b"priority"), 0),
        attempt=_number(field.get(b"attempt"), 1),
        reason=field.get(b"reason", b"put there by somebody else").decode("utf-8", "replace"),
        at=_number(field.get(b"at_ms"), 0) / 1000,
    )


def _number(text: bytes | None, default: int) -> int:
    """Others may have written it."""
    return int(text) if text is not None and text.isdigit() and len(text) < 16 else default


def milliseconds(seconds: float) -> int:
    """At least 1 for anything above 0 (a delay that rounds to nothing is none), at most ten years."""
    return max(1, round(min(seconds, _LONGEST_S) * 1000)) if seconds > 0 else 0


def by_count(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


def by_bytes(messages: Sequence[Message]) -> Iterator[list[Message]]:
    chunk: list[Message] = []
    size_bytes = 0
    for message in messages:
        full = len(chunk) >= CHUNK or size_bytes + len(message.body) > _CHUNK_BYTES
        if chunk and full:
            yield chunk
            chunk, size_bytes = [], 0
        chunk.append(message)
        size_bytes += len(message.body)
    if chunk:
        yield chunk
