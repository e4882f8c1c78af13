"""Messages on their way out as bytes. pika encodes all fields of every message; here what all messages of a
lane share is encoded once, by pika, and kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import pika
from pika import frame, spec

from queue_runner.brokers.rabbitmq.frames import END, FRAME, HEADER, HEADER_BYTES

_KEPT = 1024

_END = bytes([END])


class LaneProperties:
    """Of a persistent message: its id, and what comes `before` it and many have.

    pika takes it for one of its own, which takes several times as long to make.
    """

    __slots__ = ("before", "message_id")
    INDEX: ClassVar[int] = spec.BasicProperties.INDEX

    def __init__(self, message_id: str, before: bytes) -> None:
        self.message_id = message_id
        self.before = before

    def encode(self) -> list[bytes]:
        name = self.message_id.encode()
        return [self.before, bytes([len(name)]), name]


def before_id(headers: Mapping[str, int]) -> bytes:
    """The properties of a persistent message but its id, which comes last."""
    whole = pika.BasicProperties(delivery_mode=2, message_id="", headers=dict(headers)).encode()
    return b"".join(whole)[: -len(b"\0")]


def message_frames(
    channel: int, exchange: str, routing_key: str, mandatory: bool, properties: Any, body: bytes
) -> bytes:
    """The three frames of a message whose body fits into one."""
    said, length = b"".join(properties.encode()), len(body)
    size = HEADER_BYTES + len(said)
    return b"".join(
        (
            _publish(channel, exchange, routing_key, mandatory),
            HEADER.pack(spec.FRAME_HEADER, channel, size, spec.Basic.INDEX, 0, length),
            said,
            _END,
            FRAME.pack(spec.FRAME_BODY, channel, length),
            body,
            _END,
        )
    )


@lru_cache(_KEPT)
def _publish(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    method = spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
    return bytes(frame.Method(channel, method).marshal())
