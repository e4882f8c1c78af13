"""Values of the model as maps, lists and scalars, and back, with every type checked.

Reading is done by functions that are made once from a dataclass's type hints.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

import msgpack

from queue_runner.errors import WireError
from queue_runner.printing import one_line

T = TypeVar("T")

#: Of what a kind makes of its study; beyond it, JSON and our own code would run out of stack.
_MAX_DEPTH = 60


def to_plain(value: Any) -> Any:
    """Maps, lists and scalars, as JSON and msgpack know them; defaults left out of dataclasses."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {}
        for name, default in fields(type(value)):
            item = getattr(value, name)
            if item is not default and item != default:
                plain[name] = to_plain(item)
        return plain
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def from_plain(cls: type[T], plain: object) -> T:
    """The opposite of `to_plain`, checking every type. Raises `WireError`."""
    try:
        return typing.cast(T, reader_of(typing.cast(Any, cls))(plain))
    except WireError as error:
        raise WireError(f"{cls.__name__}{error}") from None


def shallow(value: Any) -> dict[str, object]:
    """A dataclass's fields without those that have their default; what they hold is as it was.

    msgpack goes on from there by itself, and asks `_inner` about what it does not know: many times
    faster than a walk through every value in Python.
    """
    plain = {}
    cls: Any = type(value)
    for name, default in fields(cls):
        item = getattr(value, name)
        if item is not default and item != default:
            plain[name] = item
    return plain


def _inner(value: Any) -> object:
    if dataclasses.is_dataclass(value):
        return shallow(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no form in a message")


def pack(value: object) -> bytes:
    """As msgpack. Raises `WireError` for a value that it has no form for."""
    try:
        packed: bytes = msgpack.packb(value, use_bin_type=True, default=_inner)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"this value cannot be sent: {error}") from error
    return packed


@cache
def fields(cls: Any) -> tuple[tuple[str, object], ...]:
    """Names of a dataclass's fields, each with its default (or `MISSING`)."""
    pairs: list[tuple[str, object]] = []
    for spec in dataclasses.fields(cls):
        default: object = spec.default
        if spec.default_factory is not dataclasses.MISSING:
            default = spec.default_factory()
        pairs.append((spec.name, default))
    return tuple(pairs)


#: Converts a plain value, or raises a `WireError` that begins with the path to what is wrong.
Reader = Callable[[Any], object]


@cache
def reader_of(hint: Any) -> Reader:
    """A function that checks a plain value against a type hint and converts it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return _read_plain
    if dataclasses.is_dataclass(hint):
        return _dataclass_reader(typing.cast(type, hint))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _enum_reader(hint)
    if origin in (typing.Union, types.UnionType):
        return _union_reader(args, hint)
    if origin is tuple:
        return _tuple_reader(reader_of(args[0]))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping_reader(reader_of(args[1]), _as_they_are(args[1]))
    return _scalar_reader(hint)


def _read_plain(plain: Any, depth: int = 0) -> object:
    """What JSON knows, too: it is stored, shown, and handed to programs."""
    if depth > _MAX_DEPTH:
        raise WireError(f": nested more than {_MAX_DEPTH} levels deep")
    if type(plain) is dict:
        for key, value in plain.items():
            if type(key) is not str:
                raise WireError(f": a key is {kind_of(key)}, not text")
            if type(value) not in _PLAIN or depth == _MAX_DEPTH:
                _read_plain(value, depth + 1)
    elif type(plain) is list:
        for value in plain:
            if type(value) not in _PLAIN or depth == _MAX_DEPTH:
                _read_plain(value, depth + 1)
    elif type(plain) not in _PLAIN:
        raise WireError(f": {kind_of(plain)} is not used here")
    return plain


def _dataclass_reader(cls: type) -> Reader:
    hints = typing.get_type_hints(cls)
    readers = {spec.name: reader_of(hints[spec.name]) for spec in dataclasses.fields(cls)}
    required = [
        spec.name
        for spec in dataclasses.fields(cls)
        if spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
    ]

    def read(plain: Any) -> object:
        if type(plain) is not dict:
            raise _expected("a map", plain)
        known = {}
        name = None
        try:
            for name, value in plain.items():
                if (reader := readers.get(name)) is not None:
                    known[name] = reader(value)
        except WireError as error:
            raise WireError(f".{name}{error}") from None
        try:
            return cls(**known)
        except TypeError:
            missing = [name for name in required if name not in plain]
            raise WireError(f": missing {', '.join(missing)}") from None

    return read


def _enum_reader(cls: type[StrEnum]) -> Reader:
    members = {member.value: member for member in cls}

    def read(plain: Any) -> object:
        if isinstance(plain, str) and plain in members:
            return members[plain]
        raise WireError(f": {plain!r:.80} is none of {', '.join(cls)}")

    return read


def _union_reader(hints: Sequence[Any], hint: object) -> Reader:
    """The first that fits. Scalars are told by their type alone."""
    scalars = frozenset(each for each in hints if each in _SCALARS)
    readers = [reader_of(each) for each in hints if each not in _SCALARS]

    def read(plain: Any) -> object:
        if type(plain) in scalars:
            return plain
        for reader in readers:
            try:
                return reader(plain)
            except WireError:
                continue
        if float in scalars and type(plain) is int:
            return float(plain)
        raise _expected(str(hint), plain)

    return read


def _tuple_reader(item: Reader) -> Reader:
    def read(plain: Any) -> object:
        if type(plain) is not list:
            raise _expected("a list", plain)
        return tuple(_each(item, f"[{number}]", value) for number, value in enumerate(plain))

    return read


def _each(reader: Reader, where: str, value: object) -> object:
    try:
        return reader(value)
    except WireError as error:
        raise WireError(f"{where}{error}") from None


def _as_they_are(hint: Any) -> frozenset[type]:
    """Types that a reader of this hint takes, and does not convert."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    taken = typing.get_args(hint) if union else (hint,)
    return frozenset(each for each in _SCALARS if each in taken)


def _mapping_reader(item: Reader, as_they_are: frozenset[type]) -> Reader:
    def read(plain: Any) -> object:
        if type(plain) is not dict:
            raise _expected("a map", plain)
        if _TEXT.issuperset(map(type, plain)) and as_they_are.issuperset(map(type, plain.values())):
            # there are millions of these
            return plain
        name = None
        converted = {}
        try:
            for name, value in plain.items():
                if type(name) is not str:
                    raise WireError(f": a key is {kind_of(name)}, not text")
                converted[name] = item(value)
        except WireError as error:
            where = f".{one_line(name, 80)}" if type(name) is str else ""
            raise WireError(f"{where}{error}") from None
        return converted

    return read


_TEXT = frozenset({str})
_SCALARS: frozenset[type] = frozenset({int, float, str, bool, bytes, type(None)})
_PLAIN = _SCALARS - {bytes}


def _scalar_reader(cls: type) -> Reader:
    def read(plain: Any) -> object:
        if type(plain) is cls:
            return plain
        raise _expected(cls.__name__, plain)

    def read_float(plain: Any) -> object:
        return float(plain) if type(plain) is int else read(plain)

    return read_float if cls is float else read


def _expected(what: str, plain: object) -> WireError:
    return WireError(f": expected {what}, got {kind_of(plain)}")


def kind_of(value: object) -> str:
    """What to call it in an error."""
    return type(value).__name__
