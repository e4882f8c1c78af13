"""What others publish to our queues: bodies beyond all bounds, and headers that pika cannot read.

pika keeps a body until it is complete, 128 MiB of it and more, and closes the connection over a header that
it does not understand, upon which the server delivers the message again, for ever. Here a body over the limit
is let go of as it comes, and unreadable properties are none; who takes the delivery asks `too_long`.
"""

from __future__ import annotations

import struct
from typing import Any

from pika import exceptions, frame, spec
from pika.channel import ContentFrameAssembler

from queue_runner.brokers.base import MAX_BODY_BYTES

#: What pika raises over bytes that are no properties.
UNREADABLE = (
    exceptions.AMQPError,
    ValueError,
    OSError,  # of a time that the system cannot say
    ArithmeticError,
    LookupError,
    TypeError,
    RecursionError,
    struct.error,
)


class Assembler(ContentFrameAssembler):  # type: ignore[misc]  # pika is not typed
    def _handle_body_frame(self, body_frame: Any) -> Any:
        header: Any = self._header_frame
        if header.body_size <= MAX_BODY_BYTES:
            return super()._handle_body_frame(body_frame)
        self._seen_so_far += len(body_frame.fragment)
        if self._seen_so_far < header.body_size:
            return None
        header.properties.too_long = header.body_size
        return self._finish()


def too_long(properties: Any) -> str | None:
    """Why a delivery came without its body, where it did."""
    size: int | None = getattr(properties, "too_long", None)
    if size is None:
        return None
    return f"a body of {size} bytes, of which the limit is {MAX_BODY_BYTES}"


def header_without_properties(data: bytes) -> tuple[int, Any]:
    """The content header at the beginning of `data`, as `frame.decode_frame` returns it.

    Raises what is being handled for any other frame: those come from the server itself.
    """
    kind, channel, size = struct.unpack_from(">BHL", data)
    if kind != spec.FRAME_HEADER:
        raise
    (body_size,) = struct.unpack_from(">Q", data, spec.FRAME_HEADER_SIZE + 4)
    end = spec.FRAME_HEADER_SIZE + size + spec.FRAME_END_SIZE
    return end, frame.Header(channel, body_size, spec.BasicProperties())
