"""Messages that are alike are read as all others, only faster."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_runner import bounds, wire
from queue_runner.alike import Alike
from queue_runner.errors import WireError
from queue_runner.model import Failure, Job, Reason, Result, Scalar, State
from queue_runner.plain import from_plain, pack
from queue_runner.unpacking import UnpackError, unpack
from tests.unit.messages import JOBS, POINTS, RESULTS

_START = b"\x93" + pack(1) + pack("job")
_OWN = ("id", "index", "point", "spec")
_TIMES = st.floats(allow_nan=False, allow_infinity=False)


def jobs_alike() -> Alike[Job]:
    return Alike(Job, _START, _OWN, bounds.own_of_job)


def read_with_care(body: bytes) -> Job | None:
    try:
        _, name, payload = unpack(body)
        job = from_plain(Job, payload)
        bounds.check(job)
    except (UnpackError, WireError, TypeError, ValueError):
        return None
    return job if name == "job" else None


@given(JOBS, POINTS, st.integers(0, 2**40))
def test_a_job_like_one_before_is_read_without_looking_at_what_it_shares(
    first: Job, point: dict[str, Scalar], index: int
) -> None:
    alike = jobs_alike()
    second = replace(first, id=f"s.{index}", index=index, point=point, spec={"args": point})
    assert alike.decode(alike.encode(second)) is None
    alike.learn(first)
    read = alike.decode(alike.encode(second))
    assert read == second
    assert read is not None
    assert read.resources is first.resources
    assert alike.encode(second) == wire.encode(second)


@given(RESULTS, POINTS, _TIMES, st.integers(0, 2**40))
def test_so_are_results(result: Result, metrics: dict[str, Scalar], at: float, index: int) -> None:
    other = replace(result, index=index, metrics=metrics, started_at=at, timings={"run": 1.5})
    wire.decode(wire.encode(result), Result)
    body = wire.encode(other)
    assert wire.decode(body, Result) == other
    assert wire.decode_batch(wire.batch([body]), [Result]) == [(other, body)]


@given(JOBS, st.data())
def test_bytes_that_were_changed_are_read_as_with_care_or_not_at_all(
    job: Job, data: st.DataObject
) -> None:
    alike = jobs_alike()
    alike.learn(job)
    body = alike.encode(job)
    first = data.draw(st.integers(0, len(body)))
    last = data.draw(st.integers(first, min(len(body), first + 4)))
    changed = body[:first] + data.draw(st.binary(max_size=4)) + body[last:]
    read = alike.decode(changed)
    assert read is None or read == read_with_care(changed)


JOB = Job("s.1", "s", 1, "python", {"x": 1}, {"call": "m:f"}, bundle="a" * 64)


def with_own(*pairs: tuple[object, object]) -> bytes:
    """JOB's message, with other things where its own are."""
    body = jobs_alike().encode(JOB)
    own = b"".join(msgpack.packb(part) for pair in pairs for part in pair)
    mine = pack({name: getattr(JOB, name) for name in _OWN})[1:]
    assert mine in body
    return body.replace(mine, own)


@pytest.mark.parametrize(
    "pairs",
    [
        [("id", "s.2"), ("index", 2), ("point", {}), ("index", 3)],
        [("id", "s.2"), ("index", 2), ("point", {}), ("worker", "mine")],
        [("id", "s.2"), ("index", 2), ("point", {})],
        [("id", "s.2"), ("index", 2), ("point", {}), ("spec", {}), ("image", "i")],
        [("id", "s.2"), ("index", True), ("point", {}), ("spec", {})],
        [("id", "../s.2"), ("index", 2), ("point", {}), ("spec", {})],
        [("id", "s.2"), ("index", 2), ("point", {"\n": 1}), ("spec", {})],
        [("id", "s.2"), ("index", 2), ("point", {"x": []}), ("spec", {})],
        [("id", "s.2"), ("index", 2), ("point", {}), ("spec", {"a": b"1"})],
        [("id", "s.2"), ("index", 2), ("point", {}), ("spec", {1: 1})],
        [("id", "s.2"), ("index", 2), ("point", {}), ("spec", msgpack.Timestamp(1))],
    ],
)
def test_what_is_wrong_is_left_to_those_who_say_so(pairs: list[tuple[object, object]]) -> None:
    alike = jobs_alike()
    alike.learn(JOB)
    assert alike.decode(with_own(("id", "s.2"), ("index", 2), ("point", {}), ("spec", {})))
    assert alike.decode(with_own(*pairs)) is None


def test_a_key_that_is_given_twice_further_in_is_seen() -> None:
    alike = jobs_alike()
    alike.learn(JOB)
    good = with_own(("id", "s.2"), ("index", 2), ("point", {"x": 1}), ("spec", {}))
    assert alike.decode(good) is not None
    assert alike.decode(good.replace(b"\x81\xa1x\x01", b"\x82\xa1x\x01\xa1x\x01")) is None


def test_equal_is_not_the_same() -> None:
    """What is shared may be equal and have another form."""
    one, other = (replace(JOB, container={"shm": shm}) for shm in (1, 1.0))
    assert wire.encode(one) != wire.encode(other)
    assert wire.decode(wire.encode(one), Job) == one


def test_what_nobody_shares_is_not_remembered() -> None:
    failure = Failure(Reason.EXIT_CODE, "it said " + 5000 * "no ")
    result = Result("s.1", "s", 1, 1, State.FAILED, True, {}, failure=failure)
    alike = Alike(Result, b"", ("job_id", "index", "point"), bounds.own_of_result)
    alike.learn(result)
    assert alike.decode(alike.encode(result)) is None
