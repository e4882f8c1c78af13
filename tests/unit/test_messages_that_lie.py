"""Bytes and values that somebody else made up: read as what they are, or refused with a reason."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings

from queue_runner import model, wire
from queue_runner.errors import WireError
from queue_runner.unpacking import UnpackError, unpack
from tests.unit.messages import TYPES, mutated

MIB = 1024**2
JOB = {"id": "s.1", "study": "s", "index": 1, "kind": "python", "point": {}, "spec": {}}
RESULT = {
    "job_id": "s.1", "study": "s", "index": 1, "attempt": 1, "state": "failed", "final": True, "point": {},
}  # fmt: skip


def _read(body: bytes) -> tuple[list[Any], str]:
    """The values, or what is said of it."""
    try:
        return [value for value, _ in wire.decode_batch(body, TYPES)], ""
    except WireError as error:
        return [], str(error)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_what_is_let_in_can_be_stored_and_shown_and_all_else_is_a_wire_error(body: bytes) -> None:
    values, said = _read(body)
    assert said.isprintable()
    assert len(said) < 2000
    for value in values:
        assert wire.decode(wire.encode(value), type(value)) is not None
        json.dumps(dataclasses.asdict(value))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"id": "../../etc/cron.d/x"}, "Job.id"),
        ({"id": "a/b"}, "Job.id"),
        ({"id": "."}, "Job.id"),
        ({"id": ""}, "Job.id"),
        ({"id": "x" * 300}, "Job.id"),
        ({"id": "s.1\n"}, "Job.id"),
        ({"study": "../other"}, "Job.study"),
        ({"study": "\x1b[2J"}, "Job.study"),
        ({"index": -1}, "Job.index"),
        ({"index": 2**63}, "Job.index"),
        ({"kind": "python\nINFO all is well"}, "Job.kind"),
        ({"point": {"a\x1b[31m": 1}}, "Job.point"),
        ({"bundle": "../../etc/passwd"}, "Job.bundle"),
        ({"resources": {"cores": -4}}, "Job.resources.cores"),
        ({"resources": {"cores": 0}}, "Job.resources.cores"),
        ({"resources": {"ranks": 10**9}}, "Job.resources.ranks"),
        ({"resources": {"memory_bytes": 0}}, "Job.resources.memory_bytes"),
        ({"resources": {"wall_time_s": float("nan")}}, "Job.resources.wall_time_s"),
        ({"resources": {"wall_time_s": -1}}, "Job.resources.wall_time_s"),
        ({"retry": {"retries": 10**12}}, "Job.retry.retries"),
        ({"retry": {"first_s": float("inf")}}, "Job.retry.first_s"),
        ({"retry": {"factor": float("nan")}}, "Job.retry.factor"),
        ({"keep": ["../*"]}, "Job.keep"),
        ({"keep": ["/etc/shadow"]}, "Job.keep"),
        ({"keep": ["**/" * 4 + "x"]}, "Job.keep"),
        ({"resume": {"keep": ["../*"]}}, "Job.resume.keep"),
        ({"resume": {"every_s": 0.0}}, "Job.resume.every_s"),
        ({"resume": {"every_s": -1.0}}, "Job.resume.every_s"),
        ({"queue": "a b"}, "Job.queue"),
        ({"priority": 10}, "Job.priority"),
        ({"image": "x\x07"}, "Job.image"),
        ({"worker": "w\r"}, "Job.worker"),
        ({"container": {"network": "host --privileged"}}, "Job.container.network"),
        ({"container": {"shm": -1}}, "Job.container.shm"),
        ({"measure": {"metrics": "../other.1/metrics.json"}}, "Job.measure.metrics"),
        ({"measure": {"log": [{"name": "x", "pattern": "x", "file": "../*"}]}}, "Job.measure.log"),
        ({"measure": {"log": "all"}}, "Job.measure.log"),
        ({"measure": {"log": [{"name": "x", "pattern": "(" * 1001}]}}, "Job.measure.log.pattern"),
        ({"measure": {"openfoam": {"functions": ["/etc/passwd"]}}}, "Job.measure.openfoam"),
        ({"measure": {"openfoam": {"fields": 1}}}, "Job.measure.openfoam.fields"),
        ({"spec": {"args": b"bytes"}}, "bytes is not used here"),
        ({"spec": {"at": msgpack.Timestamp(0)}}, "Timestamp is not used here"),
        ({"spec": {"x": {b"key": 1}}}, "a key is bytes, not text"),
    ],
    ids=repr,
)
def test_a_job_that_asks_for_the_absurd_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(WireError) as caught:
        wire.decode(msgpack.packb([wire.VERSION, "job", JOB | changes]), model.Job)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"job_id": "s/1"}, "Result.job_id"),
        ({"study": "a\0b"}, "Result.study"),
        ({"attempt": 0}, "Result.attempt"),
        ({"attempt": 2**31}, "Result.attempt"),
        ({"index": 2**64 - 1}, "Result.index"),
        ({"worker": "w\0"}, "Result.worker"),
        ({"started_at": float("nan")}, "Result.started_at"),
        ({"artifacts": [{"name": "../x", "sha256": "0" * 64, "size_bytes": 1}]}, "artifacts.name"),
        ({"artifacts": [{"name": "x", "sha256": "../x", "size_bytes": 1}]}, "artifacts.sha256"),
        ({"artifacts": [{"name": "x", "sha256": "0" * 64, "size_bytes": -1}]}, "size_bytes"),
        ({"failure": {"reason": "\x1b]0;", "message": ""}}, "Result.failure.reason"),
    ],
    ids=repr,
)
def test_a_result_that_no_table_can_hold_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(WireError) as caught:
        wire.decode_batch(msgpack.packb([wire.VERSION, "result", RESULT | changes]), TYPES)
    assert says in str(caught.value)


def _nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = {"x": value}
    return value


@pytest.mark.parametrize("depth", [61, 300, 900])
def test_a_spec_that_is_deeper_than_any_of_ours_is_refused(depth: int) -> None:
    body = msgpack.packb([wire.VERSION, "job", JOB | {"spec": {"x": _nested(depth)}}])
    with pytest.raises(WireError, match=r"nested more than 60 levels|not a msgpack message"):
        wire.decode(body, model.Job)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\x82\xa1a\x01\xa1a\x02", "the key 'a' is given twice"),
        (b"\xa2\xff\xff", "UnicodeDecodeError"),
        (b"\xdd\x7f\xff\xff\xff", "max_array_len"),
        (b"\xdf\x7f\xff\xff\xff", "max_map_len"),
        (b"\xdb\x7f\xff\xff\xff", "incomplete input"),
        (b"\xc6\x7f\xff\xff\xff", "incomplete input"),
        (b"\xc7\x01\x05x", "extension type 5"),
        (b"\x91" * 5000, "not a msgpack message"),
        (b"\x81\x01\x02", "int is not allowed for map key"),
        (b"", "not a msgpack message"),
        (b"\x01\x02", "not a msgpack message"),
        (b"\xc1", "not a msgpack message"),
    ],
    ids=repr,
)
def test_bytes_that_no_writer_of_ours_makes_are_refused(body: bytes, says: str) -> None:
    with pytest.raises(UnpackError, match=says):
        unpack(body)


def _batch_of_lists(size: int) -> bytes:
    record = {
        "id": "s", "name": "s", "kind": "x", "total": 1, "parameters": [], "bundle": None,
        "queue": "q", "submitted_at": 0.0, "spec": {"x": [[]] * 5000},
    }  # fmt: skip
    item = msgpack.packb([wire.VERSION, "study", record])
    return wire.batch([item] * (size // len(item)))


@pytest.mark.parametrize(
    "body",
    [
        b"\xdd" + (2 * MIB - 5).to_bytes(4, "big") + b"\x90" * (2 * MIB - 5),
        b"\xdd" + (2 * MIB - 5).to_bytes(4, "big") + b"\x80" * (2 * MIB - 5),
        (b"\xdd" + (2 * MIB - 9).to_bytes(4, "big")) * 2 + b"\xc0" * (2 * MIB - 10),
        _batch_of_lists(2 * MIB),
        b"\xdd\x00\x10\x00\x00" * 900 + b"\x01" * 2 * MIB,
    ],
    ids=["empty lists", "empty maps", "a list in a list", "many items", "announced lists"],
)
def test_a_few_mebibytes_do_not_become_gigabytes(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            wire.decode_batch(body, TYPES)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    announced = 900 * 8 * MIB  # asked of the kernel and never touched
    assert peak < 80 * MIB + (announced if body.startswith(b"\xdd\x00\x10") else 0)
