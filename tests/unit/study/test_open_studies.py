"""Studies whose points are given later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queue_runner import Study, load_study
from queue_runner.errors import StudyError

_NAMES = ["a", "b", "c"]
_FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)
_VALUES = st.integers(-(2**53), 2**53) | _FLOATS | st.booleans()


def study(**fields: Any) -> Study:
    return Study(name="s", kind="command", command={"run": ["echo", "{x}"]}, **fields)


def test_an_open_study_has_parameters_and_no_points_yet() -> None:
    found = study(open=["x", "y"], derived={"z": "x + y"})
    assert found.open
    assert found.parameters == ("x", "y", "z")
    assert (found.total, list(found.points())) == (0, [])
    record = found.record(None, 1.0)
    assert (record.open, record.total, record.parameters) == (True, 0, ("x", "y", "z"))
    summary = found.check()
    assert (summary.jobs, summary.open, summary.warnings) == (0, ("x", "y"), ())


def test_a_point_is_completed_with_what_is_derived() -> None:
    found = study(open=["x", "y"], derived={"z": "x + y"})
    assert found.complete({"y": 2, "x": 1}) == {"x": 1, "y": 2, "z": 3}
    assert list(found.complete({"y": 2, "x": 1})) == ["x", "y", "z"]


def test_numbers_of_a_notebook_become_plain_ones() -> None:
    point = study(open=["x"]).complete({"x": numpy.float64(0.5)})
    assert type(point["x"]) is float


@pytest.mark.parametrize(
    ("point", "says"),
    [
        ({}, "no value of 'x'"),
        ({"x": 1, "q": 2}, "no parameter 'q' that is open"),
        ({"X": 1}, "no parameter 'X' that is open; known: x"),
        ({"x": [1, 2]}, "x: expected a number, text or true/false"),
        ({"x": None}, "x: expected a number, text or true/false"),
        ({"x": float("nan")}, "x: expected a finite number"),
        ({"x": 0}, "derived.z: .* at the point x=0"),
        ({"x": 2**64}, "x: expected a whole number of at most 64 bits"),
        ({"x": "a\0b"}, "x: expected text without a NUL"),
    ],
)
def test_a_wrong_point_is_refused_before_anything_is_sent(
    point: dict[str, object], says: str
) -> None:
    with pytest.raises(StudyError, match=says):
        study(open=["x"], derived={"z": "1 / x if x != 'a' else 1"}).complete(point)


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"parameters": {"y": [1]}}, "parameters"),
        ({"points": [{"y": 1}]}, "points"),
        ({"where": ["x > 1"]}, "where"),
    ],
)
def test_points_come_from_one_place(other: dict[str, Any], field: str) -> None:
    with pytest.raises(StudyError, match=f"{field}: an open study is given its points later"):
        study(open=["x"], **other)


@pytest.mark.parametrize(
    ("names", "says"), [(["x", "x"], "two parameters"), (["2x"], "letters"), (["pi"], "meaning")]
)
def test_names_are_those_of_parameters(names: list[str], says: str) -> None:
    with pytest.raises(StudyError, match=says):
        study(open=names)


def test_an_error_in_a_file_has_its_line(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("study: s\nkind: command\ncommand: {run: [echo, '{x}']}\nopen: x\n")
    with pytest.raises(StudyError, match=r"s\.yaml:4: open: expected a list"):
        load_study(file)


def test_what_is_not_open_takes_no_points_and_what_is_open_needs_some() -> None:
    with pytest.raises(StudyError, match="takes no further points"):
        study(parameters={"x": [1]}).complete({"x": 2})
    with pytest.raises(StudyError, match="its points are added while it runs"):
        study(open=["x"]).insist_on_points()
    study(parameters={"x": [1]}).insist_on_points()


def test_it_is_another_study_with_other_parameters() -> None:
    assert study(open=["x"]).id(None) != study(open=["x", "y"]).id(None)
    assert study(open=["x"]).id(None) == study(open=["x"], priority=3).id(None)


@settings(max_examples=50)
@given(st.lists(st.fixed_dictionaries({name: _VALUES for name in _NAMES}), min_size=1, max_size=8))
def test_its_jobs_are_those_of_a_study_with_its_points(points: list[dict[str, Any]]) -> None:
    command = {"run": ["echo", "{a}", "{b}", "{d}"]}
    opened = Study(name="s", kind="command", command=command, open=_NAMES, derived={"d": "2 * c"})
    complete = [opened.complete(point) for point in points]
    jobs = list(opened.jobs_at(enumerate(complete), None))
    closed = opened.closed(complete)
    assert not closed.open
    assert closed.parameters == opened.parameters
    for job, same in zip(jobs, closed.jobs(None), strict=True):
        assert (job.index, job.point, job.spec) == (same.index, same.point, same.spec)
        assert job.study == opened.id(None)
    again = Study.from_spec(opened.record(None, 0.0).spec)
    assert list(again.jobs_at(enumerate(complete), None)) == jobs


def test_without_points_it_cannot_be_closed() -> None:
    with pytest.raises(StudyError, match="no point was added"):
        study(open=["x"]).closed([])


def test_a_misspelt_parameter_is_told_with_the_nearest_one() -> None:
    with pytest.raises(StudyError, match="no parameter 'sped' that is open; did you mean 'speed'"):
        Study(
            name="s", kind="command", command={"run": ["echo", "{speed}"]}, open=["speed"]
        ).complete({"sped": 1})
