"""Messages on their way out as bytes. pika encodes all fields of every message; here what all messages of a
lane share is encoded once, by pika, and kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pika
from pika import frame, spec

_KEPT = 1024


class LaneProperties(pika.BasicProperties):  # type: ignore[misc]  # pika is not typed
    """Of a persistent message: its id, and headers that many have."""

    def __init__(self, message_id: str, headers: Mapping[str, int]) -> None:
        super().__init__(delivery_mode=2, message_id=message_id, headers=dict(headers))

    def encode(self) -> list[bytes]:
        name = self.message_id.encode()
        return [_beginning(tuple(self.headers.items())), bytes([len(name)]), name]


@lru_cache(_KEPT)
def _beginning(headers: tuple[tuple[str, int], ...]) -> bytes:
    """All but the id, which comes last."""
    whole = pika.BasicProperties(delivery_mode=2, message_id="", headers=dict(headers)).encode()
    return b"".join(whole)[: -len(b"\0")]


def message_frames(
    channel: int, exchange: str, routing_key: str, mandatory: bool, properties: Any, body: bytes
) -> bytes:
    """The three frames of a message whose body fits into one."""
    header = frame.Header(channel, len(body), properties).marshal()
    content = frame.Body(channel, body).marshal()
    return _publish(channel, exchange, routing_key, mandatory) + bytes(header) + bytes(content)


@lru_cache(_KEPT)
def _publish(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    method = spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
    return bytes(frame.Method(channel, method).marshal())
