"""msgpack that a stranger wrote: read within bounds that follow from its length.

Left alone, msgpack takes the last of two equal keys, makes objects of its own of extension types, and
turns a byte that says "empty list" into 64 bytes of memory, sixteen million times.
"""

from __future__ import annotations

from typing import Any

import msgpack

#: Lists and maps that any message may hold; and one more for so many bytes of its length.
CONTAINERS = 10_000
BYTES_EACH = 3


class UnpackError(ValueError):
    """Not msgpack, or more of it than is taken; the text says what."""


def unpack(body: bytes, containers: int = CONTAINERS, bytes_each: int = BYTES_EACH) -> Any:
    """The value in `body`: None, truth values, numbers, text, bytes, lists and maps with text as keys,
    and `msgpack.Timestamp`, which nobody here takes. Raises `UnpackError`.
    """
    if (quickly := _as_we_write(body, containers)) is not None:
        return quickly
    left = containers + len(body) // bytes_each

    def count(container: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise UnpackError(f"more lists and maps than {len(body)} bytes should hold")
        return container

    def unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for place, key in enumerate(keys) if key in keys[:place])
            raise UnpackError(f"the key {twice!r:.80} is given twice")
        count(made)
        return made

    # a list takes a byte at least: few bytes need no counting
    list_hook = count if len(body) > containers else None
    try:
        return msgpack.unpackb(
            body, raw=False, list_hook=list_hook, object_pairs_hook=unique, ext_hook=_no_extension
        )
    except UnpackError:
        raise
    except (ValueError, msgpack.UnpackException, RecursionError, MemoryError) as error:
        # msgpack's own errors say little by themselves ("Unpack failed: error = 0")
        raise UnpackError(f"not a msgpack message ({type(error).__name__}: {error})") from error


def _as_we_write(body: bytes, containers: int) -> Any:
    """A short value in msgpack's shortest form, which is ours; None for all others, and for what is wrong.

    What has a key twice is shorter when it is packed again. That is found out much faster than by looking
    at every key.
    """
    if len(body) > containers:
        return None
    try:
        value = msgpack.unpackb(body, raw=False, ext_hook=_no_extension)
        return value if len(msgpack.packb(value)) == len(body) else None
    except (TypeError, ValueError, OverflowError, msgpack.UnpackException, RecursionError):
        # the careful way says what it is
        return None


def _no_extension(code: int, data: bytes) -> Any:
    raise UnpackError(f"msgpack's extension type {code} is not used here")
