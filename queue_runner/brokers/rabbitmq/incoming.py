"""Deliveries of our own messages, straight from the bytes of a connection.

pika makes three objects of the three frames of a delivery, asks its callbacks about each, and copies what is
left of its buffer; that is most of what a short job costs a worker on RabbitMQ. Here the one form that nearly
all deliveries have is read in one go: method, header and body in a frame each, with the properties that
`outgoing.LaneProperties` writes. Whatever else comes, and whatever is not whole yet, is pika's.

Frames: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, 2.3.5 (frames), 4.2.6 (content).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from pika import data as tables
from pika import spec

#: Type, channel and length of a frame.
_FRAME = struct.Struct(">BHL")
#: The same of a header's frame, then its class, its weight and the length of the body.
_HEADER = struct.Struct(">BHLHHQ")
_DELIVER = struct.pack(">HH", *divmod(spec.Basic.Deliver.INDEX, 1 << 16))
_TAG = struct.Struct(">QB")
_BASIC = spec.Basic.INDEX
_END = spec.FRAME_END
#: Of properties: a table of headers, how long they last, and an id, and no others.
_FLAGS = struct.pack(
    ">H",
    spec.BasicProperties.FLAG_HEADERS
    | spec.BasicProperties.FLAG_DELIVERY_MODE
    | spec.BasicProperties.FLAG_MESSAGE_ID,
)
_TABLE_BYTES = struct.Struct(">L")
_KEPT, _MOST_TABLE_BYTES = 1024, 1024


class Method(NamedTuple):
    """What is asked of pika's `Basic.Deliver`."""

    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    routing_key: str


class Properties(NamedTuple):
    """What is asked of pika's `BasicProperties`. headers: shared by messages, and not to be changed."""

    headers: Mapping[str, object]
    message_id: str


class Delivery(NamedTuple):
    """end: where in the bytes the next frame begins."""

    end: int
    channel: int
    method: Method
    properties: Properties
    body: bytes


def delivery(buffer: bytes, at: int) -> Delivery | None:
    """The delivery that begins at `at`; None for whatever pika has to look at."""
    try:
        kind, channel, size = _FRAME.unpack_from(buffer, at)
        method = at + _FRAME.size
        header = method + size + 1
        if kind != spec.FRAME_METHOD or not buffer.startswith(_DELIVER, method):
            return None
        kind, number, size, of, _, length = _HEADER.unpack_from(buffer, header)
        body = header + _FRAME.size + size + 1
        if (kind, number, of) != (spec.FRAME_HEADER, channel, _BASIC):
            return None
        content = body + _FRAME.size
        end = content + length + 1
        if _FRAME.unpack_from(buffer, body) != (spec.FRAME_BODY, channel, length):
            return None
        if not buffer[header - 1] == buffer[body - 1] == buffer[end - 1] == _END:
            return None
        said = _method(buffer[method + len(_DELIVER) : header - 1])
        properties = _properties(buffer[header + _HEADER.size : body - 1])
    except (struct.error, IndexError, UnicodeDecodeError):
        return None
    if said is None or properties is None:
        return None
    return Delivery(end, channel, said, properties, buffer[content : end - 1])


def _method(fields: bytes) -> Method | None:
    """The arguments of a `basic.deliver`."""
    tag = 1 + fields[0]
    delivery_tag, redelivered = _TAG.unpack_from(fields, tag)
    exchange = tag + _TAG.size
    key = exchange + 1 + fields[exchange]
    if len(fields) != key + 1 + fields[key]:
        return None
    return Method(
        fields[1:tag].decode(), delivery_tag, bool(redelivered & 1), fields[key + 1 :].decode()
    )


def _properties(fields: bytes) -> Properties | None:
    """What stands behind the length of the body, if it has the form that we write."""
    if not fields.startswith(_FLAGS):
        return None
    (size,) = _TABLE_BYTES.unpack_from(fields, len(_FLAGS))
    mode = len(_FLAGS) + _TABLE_BYTES.size + size
    if size > _MOST_TABLE_BYTES or len(fields) != mode + 2 + fields[mode + 1]:
        return None
    headers = _table(fields[len(_FLAGS) : mode])
    return None if headers is None else Properties(headers, fields[mode + 2 :].decode())


@lru_cache(_KEPT)
def _table(encoded: bytes) -> Mapping[str, object] | None:
    """None for what pika has to complain of."""
    try:
        read, end = tables.decode_table(encoded, 0)
    except Exception:  # noqa: BLE001 - pika's own is then asked again, and says what it is
        return None
    headers: Mapping[str, object] = read
    return headers if end == len(encoded) else None
