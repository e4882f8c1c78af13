"""The wire form: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_runner import model, wire
from queue_runner.errors import WireError

NAMES = st.text(min_size=1, max_size=20)
SCALARS = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.booleans(),
    st.none(),
)
POINTS = st.dictionaries(NAMES, SCALARS, max_size=4)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
TIMES = st.floats(0, 2e9)
JOBS = st.builds(
    model.Job,
    id=NAMES,
    study=NAMES,
    index=st.integers(0, 10**9),
    kind=NAMES,
    point=POINTS,
    spec=st.dictionaries(NAMES, PLAIN, max_size=3),
    bundle=st.none() | NAMES,
    resources=st.builds(
        model.Resources,
        cores=st.integers(1, 1000),
        ranks=st.integers(1, 1000),
        memory_bytes=st.none() | st.integers(1, 2**50),
        wall_time_s=st.none() | TIMES,
    ),
    retry=st.builds(
        model.RetryPolicy, retries=st.integers(0, 9), on=st.lists(NAMES, max_size=3).map(tuple)
    ),
    measure=st.dictionaries(NAMES, PLAIN, max_size=3),
    keep=st.lists(NAMES, max_size=3).map(tuple),
)
RESULTS = st.builds(
    model.Result,
    job_id=NAMES,
    study=NAMES,
    index=st.integers(0, 10**9),
    attempt=st.integers(1, 100),
    state=st.sampled_from(model.State),
    final=st.booleans(),
    point=POINTS,
    metrics=POINTS,
    failure=st.none() | st.builds(model.Failure, reason=NAMES, message=NAMES),
    artifacts=st.lists(
        st.builds(model.Artifact, name=NAMES, sha256=NAMES, size_bytes=st.integers(0, 2**50)),
        max_size=3,
    ).map(tuple),
    log_tail=st.text(max_size=50),
    started_at=TIMES,
    timings=st.dictionaries(NAMES, TIMES, max_size=3),
)


@given(JOBS)
def test_a_job_survives_the_wire(job: model.Job) -> None:
    assert wire.decode(wire.encode(job), model.Job) == job


@given(POINTS)
def test_numbers_keep_their_type(point: dict[str, model.Scalar]) -> None:
    job = model.Job("s.1", "s", 1, "python", point, {})
    decoded = wire.decode(wire.encode(job), model.Job)
    assert {name: type(value) for name, value in decoded.point.items()} == {
        name: type(value) for name, value in point.items()
    }


@given(st.lists(RESULTS | st.builds(model.JobsSubmitted, study=NAMES, upto=st.integers(0, 99))))
def test_a_batch_keeps_its_order(items: list[object]) -> None:
    body = wire.encode_batch(items)
    assert wire.decode_batch(body, [model.Result, model.JobsSubmitted]) == items


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
