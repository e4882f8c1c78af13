"""JSON Schemas of what the HTTP API answers, from the types that `wire.to_plain` writes."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Union

Schema = dict[str, Any]
_PLAIN = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
}


def schema_of(kind: Any) -> Schema:
    """`kind`: a type, or a map of names to types for an object that has no type of its own."""
    if isinstance(kind, Mapping):
        return _object({name: schema_of(each) for name, each in kind.items()}, list(kind))
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {"type": "string", "enum": [each.value for each in kind]}
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(each) for each in arguments]}
    if origin in (list, tuple, Sequence):
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    if kind is Any:
        return {}
    raise TypeError(f"{kind} has no schema")


def _dataclass(kind: Any) -> Schema:
    """What has its default may be left out."""
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    missing = dataclasses.MISSING
    required = [
        each.name for each in fields if each.default is missing and each.default_factory is missing
    ]
    return _object({each.name: schema_of(hints[each.name]) for each in fields}, required)


def _object(properties: Mapping[str, Schema], required: Sequence[str]) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }
