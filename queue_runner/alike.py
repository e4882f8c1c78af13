"""Messages that are alike: the jobs of a study, and their results, share most of their fields.

A message has first what is its own, then what it shares. What is shared is encoded once, and on the other
side read and checked once: a message that begins and ends as one that was read before differs from it by
what stands between, and that alone is read and checked. All others are read from end to end.
"""

from __future__ import annotations

import threading
import typing
from collections.abc import Callable, Sequence
from operator import attrgetter, is_
from typing import Any, Generic, NamedTuple, TypeVar

import msgpack

from queue_runner.errors import WireError
from queue_runner.model import like
from queue_runner.plain import fields, pack, reader_of
from queue_runner.unpacking import CONTAINERS

T = TypeVar("T")

#: Of those before, for several studies may run at the same time; and of how many bytes shared by many: longer
#: ones have logs and artifacts in them, which are shared by none.
_REMEMBERED, _MOST_BYTES = 4, 4096


class _Written(NamedTuple):
    """What messages begin and end with, and the values of the fields that they share."""

    head: bytes
    tail: bytes
    shared: tuple[Any, ...]


class _Read(NamedTuple):
    """What messages begin and end with, and one of them."""

    head: bytes
    tail: bytes
    message: Any


class _Packers(threading.local):
    """One for each thread: to make one takes longer than to pack what is a message's own."""

    def __init__(self) -> None:
        self.packer = msgpack.Packer()


class Alike(Generic[T]):
    """The messages of one dataclass, whose fields are in its `__dict__`. Safe to use from several threads.

    start: the bytes before the payload. own: the fields that are a message's own; check: their bounds,
    raises `WireError`.
    """

    def __init__(
        self, cls: type[T], start: bytes, own: Sequence[str], check: Callable[[T], None]
    ) -> None:
        self._defaults = dict(fields(typing.cast(Any, cls)))
        names = list(self._defaults)
        hints = typing.get_type_hints(cls)
        self._start, self._check = start, check
        self._own = tuple(own)
        self._readers = [(name, reader_of(hints[name])) for name in own]
        self._map = _map_header(len(self._own))
        self._packers = _Packers()
        self._own_of: Callable[[T], tuple[Any, ...]] = attrgetter(*own)
        self._others = [name for name in names if name not in own]
        self._others_of: Callable[[T], tuple[Any, ...]] = attrgetter(*self._others)
        # replaced, never changed
        self._written: tuple[_Written, ...] = ()
        self._read: tuple[_Read, ...] = ()

    def encode(self, value: T) -> bytes:
        """Raises `WireError`."""
        others = self._others_of(value)
        # the very same objects: what is only equal may have another form, such as 1 and True
        known = next((each for each in self._written if all(map(is_, each.shared, others))), None)
        if known is None:
            known = _Written(*self._around(others), others)
            if len(known.tail) <= _MOST_BYTES:
                self._written = (known, *self._written[: _REMEMBERED - 1])
        own = pack(dict(zip(self._own, self._own_of(value), strict=True)))
        # without the byte that says how many there are, for `head` does
        return known.head + own[1:] + known.tail

    def _around(self, others: tuple[Any, ...]) -> tuple[bytes, bytes]:
        """What messages that share these begin and end with."""
        shared = {
            name: item
            for name, item in zip(self._others, others, strict=True)
            if item is not (default := self._defaults[name]) and item != default
        }
        head = self._start + _map_header(len(self._own) + len(shared))
        tail = pack(shared)[len(_map_header(len(shared))) :]
        return head, tail

    def learn(self, value: T) -> None:
        """Remember a value that was read and checked."""
        known = _Read(*self._around(self._others_of(value)), value)
        if len(known.tail) <= _MOST_BYTES:
            self._read = (known, *self._read[: _REMEMBERED - 1])

    def decode(self, body: bytes) -> T | None:
        """The value of a message that is like one before, and right; None for one to be read with care.

        A map of so many entries, of which those behind are the ones that were read before, has in between
        what is a map, too, if all of it is used up.
        """
        for known in self._read:
            if body.startswith(known.head) and body.endswith(known.tail):
                own = body[len(known.head) : len(body) - len(known.tail)]
                if 0 < len(own) <= CONTAINERS:
                    return self._joined(known, self._map + own)
        return None

    def _joined(self, known: _Read, own: bytes) -> T | None:
        try:
            plain = msgpack.unpackb(own)
            # what has a key twice is shorter when it is packed again; see `unpacking.py`
            if tuple(plain) != self._own or len(self._packers.packer.pack(plain)) != len(own):
                return None
            value: T = like(
                known.message, {name: read(plain[name]) for name, read in self._readers}
            )
            self._check(value)
        except (WireError, ValueError, TypeError, OverflowError, msgpack.UnpackException):
            # reading it with care says what is wrong
            return None
        return value


def _map_header(count: int) -> bytes:
    return bytes(msgpack.Packer().pack_map_header(count))
