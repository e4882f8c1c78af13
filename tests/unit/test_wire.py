"""The wire form: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_runner import model, wire
from queue_runner.errors import WireError
from tests.unit.messages import JOBS, MESSAGES, PLAIN, POINTS, RESULTS, SUBMITTED, TYPES


@given(MESSAGES)
def test_every_message_survives_the_wire(message: object) -> None:
    assert wire.decode(wire.encode(message), type(message)) == message
    assert wire.decode_batch(wire.encode(message), TYPES) == [(message, wire.encode(message))]


@given(POINTS)
def test_numbers_keep_their_type(point: dict[str, model.Scalar]) -> None:
    job = model.Job("s.1", "s", 1, "python", point, {})
    decoded = wire.decode(wire.encode(job), model.Job)
    assert {name: type(value) for name, value in decoded.point.items()} == {
        name: type(value) for name, value in point.items()
    }


@given(st.lists(RESULTS | SUBMITTED))
def test_a_batch_keeps_its_order(items: list[object]) -> None:
    bodies = [wire.encode(item) for item in items]
    read = wire.decode_batch(wire.batch(bodies), [model.Result, model.JobsSubmitted])
    assert read == list(zip(items, bodies, strict=True))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_with_a_wire_error(body: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode(body, model.Job)


@given(PLAIN)
def test_a_random_payload_is_refused_or_read(payload: object) -> None:
    body = msgpack.packb([wire.VERSION, "job", payload])
    with pytest.raises(WireError):
        wire.decode(body, model.Job)


@given(st.data(), JOBS)
def test_a_truncated_message_is_refused(data: st.DataObject, job: model.Job) -> None:
    body = wire.encode(job)
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(WireError):
        wire.decode(body[:cut], model.Job)


JOB = {"id": "s.1", "study": "s", "index": 1, "kind": "python", "point": {}, "spec": {}}


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ([2, "job", JOB], "message of version 2; this program reads version 1"),
        ([True, "job", JOB], "message of version True"),
        ([1, "job"], "expected [version, type, payload]"),
        ({"job": 1}, "expected [version, type, payload]"),
        ([1, "jobs", JOB], "unknown message type 'jobs'"),
        ([1, "heartbeat", JOB], "expected a message of type 'job', got 'heartbeat'"),
        ([1, "job", {**JOB, "index": "1"}], "Job.index: expected int, got str"),
        ([1, "job", {**JOB, "index": True}], "Job.index: expected int, got bool"),
        ([1, "job", {**JOB, "point": {"x": []}}], "Job.point.x: expected"),
        ([1, "job", {**JOB, "keep": "all"}], "Job.keep: expected a list, got str"),
        ([1, "job", {**JOB, "keep": [1]}], "Job.keep[0]: expected str, got int"),
        ([1, "job", {**JOB, "resources": 4}], "Job.resources: expected a map, got int"),
        ([1, "job", {"id": "s.1"}], "Job: missing study, index, kind, point, spec"),
    ],
)
def test_what_is_wrong_is_named(message: object, says: str) -> None:
    with pytest.raises(WireError) as caught:
        wire.decode(msgpack.packb(message), model.Job)
    assert says in str(caught.value)


def test_a_newer_program_may_add_fields() -> None:
    body = msgpack.packb([wire.VERSION, "job", {**JOB, "colour": "red"}])
    assert wire.decode(body, model.Job).id == "s.1"


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(WireError, match="not a msgpack message"):
        wire.decode(b"\x91" * 100_000, model.Job)


@given(st.integers(1, 80), st.integers(0, 5))
def test_back_off_grows_to_its_limit(attempt: int, retries: int) -> None:
    policy = model.RetryPolicy(retries=retries, first_s=1, factor=2, max_s=60)
    assert 1 <= policy.delay_s(attempt) <= policy.delay_s(attempt + 1) <= 60
    assert policy.wants(attempt, "exit-code") == (attempt <= retries)
    assert not model.RetryPolicy(retries=99, on=("wall-time",)).wants(attempt, "exit-code")
