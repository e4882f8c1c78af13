"""The wire form of the model: msgpack of `[version, type, payload]`.

The payload is a map of the dataclass's fields, without those that have their default; fields that the
reader does not know are ignored, so that workers can be upgraded one at a time. What has the wrong
type, a missing field, another version or an unknown type raises `WireError`, whose text becomes the
reason of the dead letter.
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

from queue_runner import model
from queue_runner.errors import WireError

VERSION = 1

T = TypeVar("T")

_TYPES: Mapping[str, type] = {
    "job": model.Job,
    "result": model.Result,
    "study": model.StudyRecord,
    "submitted": model.JobsSubmitted,
    "cancel-request": model.CancelRequest,
    "retry-request": model.RetryRequest,
    "heartbeat": model.Heartbeat,
    "cancel": model.Cancel,
}
_NAMES = {cls: name for name, cls in _TYPES.items()}


def encode(value: object) -> bytes:
    """One value as one message. Raises `WireError` for a value that msgpack has no form for."""
    return _pack([VERSION, _NAMES[type(value)], to_plain(value)])


def encode_batch(values: Sequence[object]) -> bytes:
    """Several values, of whatever types, as one message."""
    return _pack([VERSION, "batch", [[_NAMES[type(v)], to_plain(v)] for v in values]])


def decode(body: bytes, expected: type[T]) -> T:
    """The one value of type `expected` in `body`; raises `WireError` for anything else."""
    name, payload = _open(body)
    if _TYPES.get(name) is not expected:
        raise WireError(f"expected a message of type {_NAMES[expected]!r}, got {name!r}")
    return from_plain(expected, payload)


def decode_batch(body: bytes, expected: Sequence[type]) -> list[Any]:
    """The values in `body`, which may be a single one; each must be of one of the types `expected`."""
    name, payload = _open(body)
    pairs = payload if name == "batch" else [[name, payload]]
    if not isinstance(pairs, list):
        raise WireError(f"a batch is a list, not {_kind_of(pairs)}")
    values: list[Any] = []
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
            raise WireError("an item of a batch is a pair of type and payload")
        cls = _TYPES.get(pair[0])
        if cls is None or cls not in expected:
            raise WireError(f"a message of type {pair[0]!r} is not accepted here")
        values.append(from_plain(cls, pair[1]))
    return values


def to_plain(value: Any) -> Any:
    """Maps, lists and scalars, as JSON and msgpack know them; defaults left out of dataclasses."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {}
        for name, default in _fields(type(value)):
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
    return typing.cast(T, _reader(typing.cast(Any, cls))(plain, cls.__name__))


def _pack(value: object) -> bytes:
    try:
        packed: bytes = msgpack.packb(value, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"this value cannot be sent: {error}") from error
    return packed


def _open(body: bytes) -> tuple[str, Any]:
    try:
        opened = msgpack.unpackb(body, raw=False, strict_map_key=True)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        # msgpack's own errors say little by themselves ("Unpack failed: error = 0")
        raise WireError(f"not a msgpack message ({type(error).__name__}: {error})") from error
    if not isinstance(opened, list) or len(opened) != 3:
        raise WireError("not a queue-runner message: expected [version, type, payload]")
    version, name, payload = opened
    if version != VERSION or isinstance(version, bool):
        raise WireError(
            f"message of version {version!r:.40}; this program reads version {VERSION}."
            " Run the same queue-runner version on both sides."
        )
    if not isinstance(name, str) or (name not in _TYPES and name != "batch"):
        raise WireError(f"unknown message type {name!r:.80}")
    return name, payload


@cache
def _fields(cls: type) -> tuple[tuple[str, object], ...]:
    pairs: list[tuple[str, object]] = []
    for spec in dataclasses.fields(cls):
        default: object = spec.default
        if spec.default_factory is not dataclasses.MISSING:
            default = spec.default_factory()
        pairs.append((spec.name, default))
    return tuple(pairs)


_Reader = Callable[[object, str], object]


@cache
def _reader(hint: Any) -> _Reader:
    """A function that checks a plain value against a type hint and converts it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return lambda plain, where: plain
    if dataclasses.is_dataclass(hint):
        return _dataclass_reader(typing.cast(type, hint))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _enum_reader(hint)
    if origin in (typing.Union, types.UnionType):
        return _union_reader([_reader(arg) for arg in args], hint)
    if origin is tuple:
        return _tuple_reader(_reader(args[0]))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping_reader(_reader(args[1]))
    return _scalar_reader(type(None) if hint is None else hint)


def _dataclass_reader(cls: type) -> _Reader:
    hints = typing.get_type_hints(cls)
    readers = {spec.name: _reader(hints[spec.name]) for spec in dataclasses.fields(cls)}
    required = [
        spec.name
        for spec in dataclasses.fields(cls)
        if spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
    ]

    def read(plain: object, where: str) -> object:
        if not isinstance(plain, dict):
            raise WireError(f"{where}: expected a map, got {_kind_of(plain)}")
        missing = [name for name in required if name not in plain]
        if missing:
            raise WireError(f"{where}: missing {', '.join(missing)}")
        known = {
            name: readers[name](value, f"{where}.{name}")
            for name, value in plain.items()
            if name in readers
        }
        return cls(**known)

    return read


def _enum_reader(cls: type[StrEnum]) -> _Reader:
    def read(plain: object, where: str) -> object:
        try:
            return cls(plain)  # type: ignore[arg-type]
        except ValueError as error:
            raise WireError(f"{where}: {plain!r:.80} is none of {', '.join(cls)}") from error

    return read


def _union_reader(readers: Sequence[_Reader], hint: object) -> _Reader:
    def read(plain: object, where: str) -> object:
        for reader in readers:
            try:
                return reader(plain, where)
            except WireError:
                continue
        raise WireError(f"{where}: expected {hint}, got {_kind_of(plain)}")

    return read


def _tuple_reader(item: _Reader) -> _Reader:
    def read(plain: object, where: str) -> object:
        if not isinstance(plain, list | tuple):
            raise WireError(f"{where}: expected a list, got {_kind_of(plain)}")
        return tuple(item(value, f"{where}[{n}]") for n, value in enumerate(plain))

    return read


def _mapping_reader(item: _Reader) -> _Reader:
    def read(plain: object, where: str) -> object:
        if not isinstance(plain, dict):
            raise WireError(f"{where}: expected a map, got {_kind_of(plain)}")
        for key in plain:
            if not isinstance(key, str):
                raise WireError(f"{where}: a key is {_kind_of(key)}, not text")
        return {key: item(value, f"{where}.{key}") for key, value in plain.items()}

    return read


def _scalar_reader(cls: type) -> _Reader:
    def read(plain: object, where: str) -> object:
        if type(plain) is cls:
            return plain
        raise WireError(f"{where}: expected {cls.__name__}, got {_kind_of(plain)}")

    def read_float(plain: object, where: str) -> object:
        if type(plain) is int:
            return float(plain)
        return read(plain, where)

    return read_float if cls is float else read


def _kind_of(value: object) -> str:
    return type(value).__name__
