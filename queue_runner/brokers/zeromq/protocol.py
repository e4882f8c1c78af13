"""What client and server say to each other.

A request is two frames, `[request id, msgpack [version, operation, arguments]]`; the reply carries the
same id and `[status, value]`. Frames with an empty id are pushed by the server: broadcasts. A
request that is not answered is sent again with its id, which the server takes for the same request, also
over another connection: an id is 16 random bytes of the client's and a number.

Messages that differ in little travel as a bundle, one list for each thing in which they differ, for a list
for each message is what reading and checking them would cost most:

- to publish: `[queue, size, priority, delay_s, attempt, bodies]`
- leased: `[queue, size, priority, token, numbers, attempts, bodies]`
- what is renewed or done: `[numbers, tokens]`

Version 1 had a list for each message; in version 2 ids were of one connection, which had a name that it kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgpack

from queue_runner.unpacking import UnpackError
from queue_runner.unpacking import unpack as unpack_within_bounds

VERSION = 3

#: One frame may not be longer, in either direction; a larger one closes the connection.
MAX_FRAME_BYTES = 32 * 1024 * 1024
#: Clients split what they publish into requests of about this size, and the server what it hands out.
CHUNK_BYTES = 8 * 1024 * 1024
CHUNK_MESSAGES = 5000

#: Lists of a request or an answer, and one more for so many bytes: each has a name and numbers.
_CONTAINERS, _BYTES_EACH = 10_000, 16


class Status(StrEnum):
    OK = "ok"
    BAD_VALUE = "bad-value"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"


class ProtocolError(Exception):
    """Bytes that are no request; the text is for the server's log and the sender."""


@dataclass(frozen=True, slots=True)
class Request:
    client: bytes
    id: bytes
    operation: str
    arguments: list[Any]


def pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(frame: bytes) -> Any:
    try:
        return unpack_within_bounds(frame, _CONTAINERS, _BYTES_EACH)
    except UnpackError as error:
        raise ProtocolError(str(error)) from error


def pack_request(operation: str, *arguments: object) -> bytes:
    return pack([VERSION, operation, list(arguments)])


def unpack_request(client: bytes, frames: list[bytes]) -> Request:
    """Raises `ProtocolError` for anything but a well-formed request of this version."""
    if len(frames) != 2 or not 0 < len(frames[0]) <= 64:
        raise ProtocolError("expected two frames: an id of 1 to 64 bytes, and a request")
    opened = unpack(frames[1])
    if not isinstance(opened, list) or len(opened) != 3:
        raise ProtocolError("expected [version, operation, arguments]")
    version, operation, arguments = opened
    if version != VERSION:
        raise ProtocolError(
            f"protocol version {version!r:.40}; this server speaks {VERSION}."
            " Run the same queue-runner version on both sides."
        )
    if not isinstance(operation, str) or not isinstance(arguments, list):
        raise ProtocolError("expected [version, operation, arguments]")
    return Request(client, frames[0], operation, arguments)
