"""The parameter space: what each form gives, in which order, and that jumping ahead is slicing."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from queue_runner.errors import StudyError
from queue_runner.study import Study, linear, log, range_, sample


def study(parameters: dict[str, Any], **fields: Any) -> Study:
    fields.setdefault("command", {"run": ["./x"]})
    return Study(name="s", kind="command", parameters=parameters, **fields)


def column(study: Study, name: str) -> list[Any]:
    return [point[name] for point in study.points()]


@pytest.mark.parametrize(
    ("form", "values"),
    [
        ([3, "a", True, 1.5], [3, "a", True, 1.5]),
        ({"values": [1, 2]}, [1, 2]),
        (7, [7]),
        ("text", ["text"]),
        (linear(0, 1, 5), [0.0, 0.25, 0.5, 0.75, 1.0]),
        (linear(0, 8, 5), [0, 2, 4, 6, 8]),
        (linear(2, -2, 3), [2, 0, -2]),
        (log(1e-3, 1, 4), [0.001, 0.01, 0.1, 1.0]),
        (log(100, 1, 3), [100.0, 10.0, 1.0]),
        (range_(0, 10, 2), [0, 2, 4, 6, 8, 10]),
        (range_(0, 0.3, 0.1), [0.0, 0.1, 0.2, 0.3]),
        (range_(5, 1, -2), [5, 3, 1]),
        (range_(1, 4), [1, 2, 3, 4]),
    ],
)
def test_a_form_gives_its_values(form: object, values: list[object]) -> None:
    found = column(study({"x": form}), "x")
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_the_last_parameter_varies_fastest() -> None:
    points = list(study({"a": [1, 2], "b": ["x", "y", "z"]}).points())
    assert [tuple(point.values()) for point in points] == [
        (1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "y"), (2, "z"),
    ]  # fmt: skip


def test_zipped_parameters_vary_together_at_the_place_of_the_first() -> None:
    zipped = study({"a": [1, 2], "b": [10, 20], "c": [7, 8]}, zip=[["a", "c"]])
    assert [tuple(p[n] for n in "acb") for p in zipped.points()] == [
        (1, 7, 10), (1, 7, 20), (2, 8, 10), (2, 8, 20),
    ]  # fmt: skip


def test_rows_of_points_come_first_and_make_a_grid_with_the_rest() -> None:
    rows = study({"c": [1, 2]}, points=[{"a": 1, "b": 2}, {"a": 3, "b": 4}])
    assert [tuple(p.values()) for p in rows.points()] == [
        (1, 2, 1),
        (1, 2, 2),
        (3, 4, 1),
        (3, 4, 2),
    ]


def test_derived_values_and_constraints() -> None:
    kept = study(
        {"u": [1, 2, 3], "nu": [0.1, 0.01]},
        derived={"re": "u / nu", "half": "re / 2"},
        where=["re < 150", "u != 3"],
    )
    assert [(p["u"], p["re"], p["half"]) for p in kept.points()] == [
        (1, 10.0, 5.0), (1, 100.0, 50.0), (2, 20.0, 10.0),
    ]  # fmt: skip
    assert kept.total == 3
    assert kept.check().before == 6


def test_an_expression_without_a_value_names_the_point() -> None:
    with pytest.raises(StudyError, match=r"derived.y: '1 / x' divides by zero at the point x=0"):
        list(study({"x": [0]}, derived={"y": "1 / x"}).points())


@pytest.mark.parametrize("method", ["random", "latin-hypercube", "sobol"])
def test_samples_are_within_bounds_and_repeat(method: str) -> None:
    def make(seed: int) -> list[dict[str, Any]]:
        drawn = study(
            {
                "x": sample(-1, 3),
                "n": sample(1, 4, integer=True),
                "l": sample(1e-4, 1e2, scale="log"),
            },
            sample={"method": method, "count": 64, "seed": seed},
        )
        return list(drawn.points())

    points = make(1)
    assert points == make(1)
    assert points != make(2)
    assert len(points) == 64
    assert all(-1 <= p["x"] <= 3 and 1e-4 <= p["l"] <= 1e2 for p in points)
    assert {p["n"] for p in points} == {1, 2, 3, 4}
    assert all(type(p["n"]) is int for p in points)


def test_a_latin_hypercube_has_one_point_in_each_stratum() -> None:
    drawn = study(
        {"x": sample(0, 1), "y": sample(0, 1)},
        sample={"method": "latin-hypercube", "count": 20, "seed": 3},
    )
    for name in "xy":
        assert sorted(math.floor(value * 20) for value in column(drawn, name)) == list(range(20))


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3)
values = st.lists(st.integers(-5, 5) | texts, min_size=1, max_size=4)
spaces = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), values, max_size=4)


@given(spaces)
def test_a_grid_has_every_combination_once(parameters: dict[str, list[Any]]) -> None:
    space = study(parameters)
    points = list(space.points())
    assert len(points) == space.total == math.prod(map(len, parameters.values()))
    for name, column_values in parameters.items():
        share = len(points) // len(column_values)
        assert sorted(map(repr, column(space, name))) == sorted(map(repr, column_values * share))


@given(spaces, st.integers(0, 300), st.booleans())
def test_jumping_ahead_is_slicing(
    parameters: dict[str, list[Any]], start: int, where: bool
) -> None:
    conditions = [f"{name} != 1" for name in parameters] if where else []
    space = study(parameters, where=conditions)
    assert list(space.points(start)) == list(space.points())[start:]


@settings(max_examples=30)
@given(spaces)
def test_jobs_are_numbered_and_made_again_one_by_one(parameters: dict[str, list[Any]]) -> None:
    space = study(parameters, where=[f"{name} != 2" for name in parameters])
    jobs = list(space.jobs(None))
    assert [job.index for job in jobs] == list(range(space.total))
    assume(jobs)
    assert len({job.id for job in jobs}) == space.total
    rebuilt = Study.from_spec(space.record(None, 0.0).spec)
    assert [rebuilt.job(job.index, None) for job in jobs[:3]] == jobs[:3]


def test_a_million_points_are_not_kept_in_memory() -> None:
    large = study({"a": range_(1, 1000), "b": linear(0, 1, 1000)})
    assert large.total == 1_000_000
    assert next(large.points(999_999)) == {"a": 1000, "b": 1.0}


def test_ids_depend_on_what_decides_results_only() -> None:
    base = study({"a": [1]})
    assert base.id(None) == study({"a": [1]}, queue="q", priority=3, retries=2, description="d").id(
        None
    )
    different = [
        study({"a": [2]}),
        study({"a": [1]}, keep=["*.txt"]),
        study({"a": [1]}, resources={"cores": 2}),
        study({"a": [1]}, command={"run": ["./y"]}),
    ]
    assert len({each.id(None) for each in [base, *different]} | {base.id("0" * 64)}) == 6


def test_a_study_without_a_job_is_not_submitted() -> None:
    empty = study({"x": [1]}, where=["x > 1"])
    with pytest.raises(StudyError, match="there is no job: none of the 1 points"):
        empty.record(None, 0.0)


@pytest.mark.parametrize(
    ("value", "says"),
    [(2**70, "at most 64 bits"), (math.nan, "finite"), ("a\0b", "NUL"), ([1], "a number, text")],
)
def test_rows_of_points_hold_what_parameters_may_be(value: object, says: str) -> None:
    with pytest.raises(StudyError, match=rf"points\[1\]: expected .*{says}"):
        study({}, points=[{"x": 1}, {"x": value}])
