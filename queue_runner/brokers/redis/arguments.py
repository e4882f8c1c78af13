"""Between our words and those of the scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from queue_runner.brokers.base import Dead, DeadLetter, Delivery, Message, Retry

T = TypeVar("T")

#: One script call handles at most so much, for the server does nothing else meanwhile.
CHUNK = 1000
_CHUNK_BYTES = 4 * 1024 * 1024
_REASON_CHARACTERS = 100_000
_LONGEST_S = 10 * 365 * 86400.0


class _Receipt(NamedTuple):
    claim_class: bytes
    id: bytes


class End(NamedTuple):
    """How one claim is to end, as settle.lua takes it."""

    kind: str
    delivery: Delivery
    arguments: tuple[Any, ...]


def done_ends(deliveries: Sequence[Delivery]) -> Iterator[End]:
    return (End("done", delivery, claim_of(delivery)) for delivery in deliveries)


def retry_ends(retries: Sequence[Retry]) -> Iterator[End]:
    for one in retries:
        how = (milliseconds(one.delay_s), int(one.counted))
        yield End("retry", one.delivery, (*claim_of(one.delivery), *how))


def dead_ends(dead: Sequence[Dead]) -> Iterator[End]:
    for one in dead:
        reason = one.reason[:_REASON_CHARACTERS].encode("utf-8", "replace")
        yield End("dead", one.delivery, (*claim_of(one.delivery), reason))


def claim_of(delivery: Delivery) -> tuple[str, bytes, bytes]:
    receipt = delivery.receipt
    if not isinstance(receipt, _Receipt):
        raise ValueError("a delivery of another broker")
    return (delivery.queue, receipt.claim_class, receipt.id)


def published(messages: Sequence[Message]) -> Iterator[Any]:
    for message in messages:
        yield message.queue
        yield message.priority
        yield message.size
        yield milliseconds(message.delay_s)
        yield message.attempt
        yield message.body


def delivery_of(queues: Sequence[str], row: list[Any]) -> Delivery:
    number, claim_class, message_id, attempt, body = row
    priority, size, _ = claim_class.split(b":")
    receipt = _Receipt(claim_class, message_id)
    return Delivery(queues[number], body, int(size), int(priority), attempt, receipt)


def letter_of(queue: str, letter_id: bytes, fields: list[bytes]) -> DeadLetter:
    field = dict(zip(fields[::2], fields[1::2], strict=True))
    return DeadLetter(
        id=letter_id.decode().partition("-")[0],
        queue=queue,
        body=field[b"body"],
        size=int(field[b"size"]),
        priority=int(field[b"priority"]),
        attempt=int(field[b"attempt"]),
        reason=field[b"reason"].decode(),
        at=int(field[b"at_ms"]) / 1000,
    )


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
