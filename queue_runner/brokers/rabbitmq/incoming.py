"""Deliveries of our own messages, straight from the bytes of a connection.

pika makes three objects of the three frames of a delivery, asks its callbacks about each, and copies what is
left of its buffer; that is most of what a short job costs a worker on RabbitMQ. Here the one form that nearly
all deliveries have is read in one go: method, header and body in a frame each, with the properties that
`outgoing.LaneProperties` writes. Whatever else comes, and whatever is not whole yet, is pika's.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from pika import data as tables
from pika import spec

from queue_runner.brokers.rabbitmq.frames import END, FRAME, HEADER

_DELIVER = struct.pack(">HH", *divmod(spec.Basic.Deliver.INDEX, 1 << 16))
_TAG = struct.Struct(">QB")
_BASIC = spec.Basic.INDEX
#: Of properties: a table of headers, how long they last, and an id, and no others.
_FLAGS = struct.pack(
    ">H",
    spec.BasicProperties.FLAG_HEADERS
    | spec.BasicProperties.FLAG_DELIVERY_MODE
    | spec.BasicProperties.FLAG_MESSAGE_ID,
)
_TABLE_BYTES = struct.Struct(">L")
_KEPT, _MOST_TABLE_BYTES = 1024, 1024


class Delivery(NamedTuple):
    """What is asked of pika's `Basic.Deliver` and `BasicProperties`, in one: there is one for every message.

    end: where in the bytes the next frame begins. headers: shared by messages, and not to be changed.
    """

    end: int
    channel: int
    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    routing_key: str
    headers: Mapping[str, object]
    message_id: str
    body: bytes


def delivery(buffer: bytes, at: int) -> Delivery | None:
    """The delivery that begins at `at`; None for whatever pika has to look at."""
    try:
        kind, channel, size = FRAME.unpack_from(buffer, at)
        method = at + FRAME.size
        header = method + size + 1
        if kind != spec.FRAME_METHOD or not buffer.startswith(_DELIVER, method):
            return None
        kind, number, size, of, _, length = HEADER.unpack_from(buffer, header)
        body = header + FRAME.size + size + 1
        if (kind, number, of) != (spec.FRAME_HEADER, channel, _BASIC):
            return None
        content = body + FRAME.size
        end = content + length + 1
        if FRAME.unpack_from(buffer, body) != (spec.FRAME_BODY, channel, length):
            return None
        if not buffer[header - 1] == buffer[body - 1] == buffer[end - 1] == END:
            return None
        # the arguments of a `basic.deliver`
        consumer = method + len(_DELIVER)
        tag = consumer + 1 + buffer[consumer]
        delivery_tag, redelivered = _TAG.unpack_from(buffer, tag)
        exchange = tag + _TAG.size
        key = exchange + 1 + buffer[exchange]
        # what stands behind the length of the body, if it has the form that we write
        flags = header + HEADER.size
        table = flags + len(_FLAGS)
        (size,) = _TABLE_BYTES.unpack_from(buffer, table)
        mode = table + _TABLE_BYTES.size + size
        name = mode + 1
        if (
            key + 1 + buffer[key] != header - 1
            or not buffer.startswith(_FLAGS, flags)
            or size > _MOST_TABLE_BYTES
            or name + 1 + buffer[name] != body - 1
        ):
            return None
        headers = _table(buffer[table:mode])
        if headers is None:
            return None
        return Delivery(
            end,
            channel,
            buffer[consumer + 1 : tag].decode(),
            delivery_tag,
            bool(redelivered & 1),
            buffer[key + 1 : header - 1].decode(),
            headers,
            buffer[name + 1 : body - 1].decode(),
            buffer[content : end - 1],
        )
    except (struct.error, IndexError, UnicodeDecodeError):
        return None


@lru_cache(_KEPT)
def _table(encoded: bytes) -> Mapping[str, object] | None:
    """None for what pika has to complain of."""
    try:
        read, end = tables.decode_table(encoded, 0)
    except Exception:  # noqa: BLE001 - pika's own is then asked again, and says what it is
        return None
    headers: Mapping[str, object] = read
    return headers if end == len(encoded) else None
