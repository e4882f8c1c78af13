"""Strategies for all that travels: values that are allowed, and bytes made of them that may not be."""

from __future__ import annotations

from typing import Any

import msgpack
from hypothesis import strategies as st

from queue_runner import model, wire

IDS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
NAMES = st.text(
    st.characters(blacklist_categories=["C", "Z"]), min_size=1, max_size=20
)  # what can be printed
PATHS = st.sampled_from(["log.icoFoam", "*.csv", "postProcessing/**", "a b/ü", "metrics.json"])
HASHES = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
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
TIMES = st.floats(0, 3e8)
COUNTS = st.integers(0, 10**9)
JOBS = st.builds(
    model.Job,
    id=IDS,
    study=IDS,
    index=COUNTS,
    kind=NAMES,
    point=POINTS,
    spec=st.dictionaries(NAMES, PLAIN, max_size=3),
    bundle=st.none() | HASHES,
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
    measure=st.fixed_dictionaries({}, optional={"metrics": PATHS, "openfoam": st.just({})}),
    keep=st.lists(PATHS, max_size=3).map(tuple),
    worker=st.none() | NAMES,
    resume=st.none()
    | st.builds(
        model.Resume, every_s=st.floats(0.01, 1e6), keep=st.lists(PATHS, max_size=3).map(tuple)
    ),
    held_by=st.none() | NAMES,
    held_s=TIMES,
)
RESULTS = st.builds(
    model.Result,
    job_id=IDS,
    study=IDS,
    index=COUNTS,
    attempt=st.integers(1, 100),
    state=st.sampled_from(model.State),
    final=st.booleans(),
    point=POINTS,
    metrics=POINTS,
    failure=st.none() | st.builds(model.Failure, reason=NAMES, message=st.text(max_size=20)),
    artifacts=st.lists(
        st.builds(model.Artifact, name=PATHS, sha256=HASHES, size_bytes=st.integers(0, 2**50)),
        max_size=3,
    ).map(tuple),
    log_tail=st.text(max_size=50),
    started_at=TIMES,
    timings=st.dictionaries(NAMES, TIMES, max_size=3),
)
SUBMITTED = st.builds(model.JobsSubmitted, study=IDS, upto=COUNTS)
SOME_IDS = st.lists(IDS, max_size=3).map(tuple)
MESSAGES: st.SearchStrategy[Any] = st.one_of(
    JOBS,
    RESULTS,
    SUBMITTED,
    st.builds(
        model.StudyRecord,
        id=IDS,
        name=NAMES,
        kind=NAMES,
        total=COUNTS,
        parameters=st.lists(NAMES, max_size=3).map(tuple),
        spec=st.dictionaries(NAMES, PLAIN, max_size=3),
        bundle=st.none() | HASHES,
        queue=st.just("default"),
        submitted_at=TIMES,
        open=st.booleans(),
    ),
    st.builds(
        model.PointsAdded, study=IDS, first=COUNTS, points=st.lists(POINTS, max_size=3).map(tuple)
    ),
    st.builds(model.CancelRequest, study=IDS, jobs=SOME_IDS),
    st.builds(model.RetryRequest, study=IDS, jobs=SOME_IDS),
    st.builds(model.Cancel, study=IDS, jobs=SOME_IDS, lifted=st.booleans()),
    st.builds(
        model.Heartbeat,
        worker=NAMES,
        host=NAMES,
        at=TIMES,
        state=st.sampled_from(["working", "stopped"]),
        queues=st.just(("default",)),
        cores=st.integers(1, 99),
        cores_free=st.integers(0, 99),
        running=st.lists(
            st.builds(
                model.RunningJob,
                job_id=IDS,
                study=IDS,
                attempt=st.integers(1, 9),
                started_at=TIMES,
            ),
            max_size=2,
        ).map(tuple),
    ),
)
TYPES = tuple(wire._TYPES.values())
#: What somebody may put where another value belongs.
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 2**31, 2**63, 2**64 - 1, float("nan"), float("inf"), -float("inf")]),
    st.sampled_from(["", "..", "../x", "/etc/passwd", "a/b", "a\nb", "\x1b[2J", "\0", "ü" * 5000]),
    st.binary(max_size=9),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(0, 3), max_size=3),
    st.just(msgpack.ExtType(5, b"x")),
    st.just(msgpack.Timestamp(2**33)),
)


def places(plain: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside."""
    if not isinstance(plain, dict | list):
        return []
    found = []
    for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain):
        found += [(*here, key), *places(value, (*here, key))]
    return found


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A message of ours in which a few values, or bytes, are others."""
    plain = msgpack.unpackb(wire.encode(draw(MESSAGES)))
    for _ in range(draw(st.integers(0, 3))):
        *way, last = draw(st.sampled_from(places(plain)))
        at = plain
        for key in way:
            at = at[key]
        at[last] = draw(ODD)
        if not isinstance(plain, list):
            break
    body = bytearray(msgpack.packb(plain))
    for _ in range(draw(st.integers(0, 2))):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body[: draw(st.integers(1, len(body)))]) if draw(st.booleans()) else bytes(body)
