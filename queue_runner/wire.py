"""The wire form of the model: msgpack of `[version, type, payload]`.

The payload is a map of the dataclass's fields, without those that have their default; fields that the
reader does not know are ignored, so that workers can be upgraded one at a time. What has the wrong
type, a missing field, another version or an unknown type, or says what no value may say (`bounds.py`),
raises `WireError`, whose text becomes the reason of the dead letter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from queue_runner import bounds, model
from queue_runner.alike import Alike
from queue_runner.errors import WireError
from queue_runner.plain import from_plain, kind_of, pack, shallow, to_plain
from queue_runner.unpacking import CONTAINERS, UnpackError, unpack

__all__ = [
    "VERSION",
    "batch",
    "decode",
    "decode_batch",
    "encode",
    "fits_in_batch",
    "from_plain",
    "to_plain",
]

VERSION = 1
#: Lists and maps in an item of a batch, beside those that its length accounts for: there may be many items.
_CONTAINERS_OF_AN_ITEM = 100

T = TypeVar("T")

_TYPES: Mapping[str, type] = {
    "job": model.Job,
    "result": model.Result,
    "study": model.StudyRecord,
    "submitted": model.JobsSubmitted,
    "points": model.PointsAdded,
    "cancel-request": model.CancelRequest,
    "retry-request": model.RetryRequest,
    "heartbeat": model.Heartbeat,
    "cancel": model.Cancel,
}
_NAMES = {cls: name for name, cls in _TYPES.items()}


def _start(cls: type) -> bytes:
    """The bytes before the payload: a list of three, its first two."""
    return b"\x93" + pack(VERSION) + pack(_NAMES[cls])


#: Types of which there are as many messages as jobs.
_ALIKE: Mapping[type, Alike[Any]] = {
    model.Job: Alike(
        model.Job, _start(model.Job), ("id", "index", "point", "spec"), bounds.own_of_job
    ),
    model.Result: Alike(
        model.Result,
        _start(model.Result),
        ("job_id", "index", "point", "metrics", "started_at", "finished_at", "timings"),
        bounds.own_of_result,
    ),
}


def encode(value: object) -> bytes:
    """One value as one message. Raises `WireError` for a value that msgpack has no form for."""
    cls = type(value)
    if (alike := _ALIKE.get(cls)) is not None:
        return alike.encode(value)
    return _start(cls) + pack(shallow(value))


def batch(bodies: Sequence[bytes]) -> bytes:
    """Several messages, each made by `encode`, as one."""
    return pack([VERSION, "batch", bodies])


def fits_in_batch(body: bytes) -> bool:
    """Whether a reader takes this message as an item: one of many lists and maps has to travel alone."""
    try:
        unpack(body, _CONTAINERS_OF_AN_ITEM)
    except UnpackError:
        return False
    return True


def decode(body: bytes, expected: type[T]) -> T:
    """The one value of type `expected` in `body`; raises `WireError` for anything else."""
    if (alike := _ALIKE.get(expected)) is not None and (quick := alike.decode(body)) is not None:
        value: T = quick
        return value
    name, payload = _open(body)
    if _TYPES.get(name) is not expected:
        raise WireError(f"expected a message of type {_NAMES[expected]!r}, got {name!r}")
    return _checked(expected, payload)


def decode_batch(body: bytes, expected: Sequence[type]) -> list[tuple[Any, bytes]]:
    """The values in `body`, which may be a single one, each with the message that it came as.

    Each must be of one of the types `expected`.
    """
    name, payload = _open(body)
    if name != "batch":
        return [(_one_of(expected, name, payload), body)]
    if not isinstance(payload, list):
        raise WireError(f"a batch is a list, not {kind_of(payload)}")
    return [(_item(each, expected), each) for each in payload]


def _item(body: object, expected: Sequence[type]) -> Any:
    if not isinstance(body, bytes):
        raise WireError(f"an item of a batch is a message, not {kind_of(body)}")
    for cls in expected:
        if (alike := _ALIKE.get(cls)) is not None and (quick := alike.decode(body)) is not None:
            return quick
    return _one_of(expected, *_open(body, _CONTAINERS_OF_AN_ITEM))


def _one_of(expected: Sequence[type], name: str, payload: object) -> Any:
    cls = _TYPES.get(name)
    if cls is None or cls not in expected:
        raise WireError(f"a message of type {name!r} is not accepted here")
    return _checked(cls, payload)


def _checked(cls: type[T], payload: object) -> T:
    value = from_plain(cls, payload)
    bounds.check(value)
    if (alike := _ALIKE.get(cls)) is not None:
        alike.learn(value)
    return value


def _open(body: bytes, containers: int = CONTAINERS) -> tuple[str, Any]:
    try:
        opened = unpack(body, containers)
    except UnpackError as error:
        raise WireError(str(error)) from error
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
