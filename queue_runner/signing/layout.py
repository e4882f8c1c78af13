"""The bytes of a signed message.

C1 51 52 01   what no msgpack message begins with
key           the length in one byte, then the name
purpose       the same
sender        8 random bytes, new in each process
number        of the message among the sender's, from 0; 8 bytes
time          microseconds of the sender's clock, 8 bytes
body
signature     HMAC-SHA256 of all the above with the key's secret for that purpose
"""

from __future__ import annotations

import struct

from queue_runner.errors import NotTrusted

MAGIC = b"\xc1QR\x01"
TAIL = struct.Struct(">8sQQ")
SIGNATURE_BYTES = 32
_UNREADABLE = "its signature cannot be read: it was altered or cut off"


def header(key: str, purpose: str) -> bytes:
    parts = (key.encode(), purpose.encode())
    return MAGIC + b"".join(bytes((len(part),)) + part for part in parts)


def header_bytes(message: bytes) -> int:
    """How long the header is, by what the message says. Raises `NotTrusted`."""
    if not message.startswith(MAGIC):
        raise NotTrusted("it is not signed, and here only signed messages are accepted")
    try:
        name_end = len(MAGIC) + 1 + message[len(MAGIC)]
        end = name_end + 1 + message[name_end]
    except IndexError as error:
        raise NotTrusted(_UNREADABLE) from error
    if len(message) < end + TAIL.size + SIGNATURE_BYTES:
        raise NotTrusted(_UNREADABLE)
    return end


def read_header(message: bytes) -> tuple[str, str]:
    """Key and purpose of a message that `header_bytes` has looked at. Raises `NotTrusted`."""
    name_end = len(MAGIC) + 1 + message[len(MAGIC)]
    key = message[len(MAGIC) + 1 : name_end]
    purpose = message[name_end + 1 : name_end + 1 + message[name_end]]
    try:
        return key.decode("ascii"), purpose.decode("ascii")
    except UnicodeDecodeError as error:
        raise NotTrusted(_UNREADABLE) from error
