"""Messages on their way out as bytes. pika encodes all fields of every message; here what all messages of a
lane share is encoded once, by pika, and kept.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import pika
from pika import frame, spec

_KEPT = 1024

#: A header's frame up to the properties, and a body's up to the body: type, channel and length of the frame;
#: the former's class, weight and length of the body. They are as in `incoming`.
_HEADER, _HEADER_BYTES = struct.Struct(">BHLHHQ"), struct.calcsize(">HHQ")
_BODY = struct.Struct(">BHL")
_END = bytes([spec.FRAME_END])


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
    size = _HEADER_BYTES + len(said)
    return b"".join(
        (
            _publish(channel, exchange, routing_key, mandatory),
            _HEADER.pack(spec.FRAME_HEADER, channel, size, spec.Basic.INDEX, 0, length),
            said,
            _END,
            _BODY.pack(spec.FRAME_BODY, channel, length),
            body,
            _END,
        )
    )


@lru_cache(_KEPT)
def _publish(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    method = spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
    return bytes(frame.Method(channel, method).marshal())
