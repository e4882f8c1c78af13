"""What a plot shows when nobody says what it should show."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from queue_runner.client.plots import Axes, choose_axes, draw
from queue_runner.errors import FixThis
from queue_runner.tables import Row


def grid(**parameters: list[float | str | bool]) -> list[Row]:
    """A row a point; y is its number."""
    rows: list[Row] = []
    for number, values in enumerate(itertools.product(*parameters.values())):
        rows.append({"index": number, **dict(zip(parameters, values, strict=True)), "y": number})
    return rows


def drawn(rows: list[Row], axes: Axes, folder: Path) -> str:
    draw(rows, axes, folder / "plot.svg", title="t")
    return (folder / "plot.svg").read_text()


def test_one_parameter() -> None:
    assert choose_axes(grid(a=[1, 2, 3]), ["a"], ["y"]) == Axes("a", "y", None)


def test_two_parameters() -> None:
    rows = grid(a=[1, 2, 3], b=[1, 2])
    assert choose_axes(rows, ["a", "b"], ["y"]) == Axes("a", "y", "b")


def test_three_parameters_are_not_joined() -> None:
    rows = grid(a=[1, 2, 3], b=[1, 2], c=[1, 2])
    assert choose_axes(rows, ["a", "b", "c"], ["y"]) == Axes("a", "y", "b", joined=False)


def test_samples_are_points() -> None:
    rows: list[Row] = [{"a": n * 0.3, "b": math.sqrt(n), "y": n} for n in range(16)]
    assert choose_axes(rows, ["a", "b"], ["y"]) == Axes("a", "y", None, joined=False)


def test_numbers_go_on_the_x_axis_before_words() -> None:
    rows = grid(scheme=["linear", "upwind"], n=[10, 20])
    assert choose_axes(rows, ["scheme", "n"], ["y"]) == Axes("n", "y", "scheme")


@pytest.mark.parametrize("values", [["linear", "upwind"], [True, False], ["x", True, 2.5]])
def test_words_have_a_place_on_the_x_axis(tmp_path: Path, values: list[float | str | bool]) -> None:
    rows = grid(scheme=values)
    picture = drawn(rows, choose_axes(rows, ["scheme"], ["y"]), tmp_path)
    assert "</svg>" in picture


def test_a_study_without_parameters_is_drawn_over_its_index() -> None:
    assert choose_axes([{"index": 0, "y": 1.0}], [], ["y"]) == Axes("index", "y", None)


def test_what_was_asked_for_comes_before_what_is_always_there() -> None:
    rows: list[Row] = [
        {"a": n, "residual_p": n * 1e-6, "execution_time": n * 0.1, "last_time": 0.5, "p_max": n}
        for n in (1, 2)
    ]
    always = ["residual_p", "execution_time", "last_time"]
    assert choose_axes(rows, ["a"], [*always, "p_max"]).y == "p_max"
    assert choose_axes(rows, ["a"], always).y == "execution_time"
    rows[1] = {**rows[1], "last_time": 0.7}
    assert choose_axes(rows, ["a"], always).y == "last_time"


def test_failed_jobs_do_not_make_a_constant_vary() -> None:
    rows: list[Row] = [
        {"a": 1, "c": 5, "d": 1},
        {"a": 2, "c": 5, "d": 2},
        {"a": 3, "c": None, "d": None},
    ]
    assert choose_axes(rows, ["a"], ["c", "d"]).y == "d"


@pytest.mark.parametrize(
    ("rows", "metrics"),
    [
        ([], []),
        ([{"a": 1}], []),
        ([{"a": 1, "y": "text"}], ["y"]),
        ([{"a": 1, "y": math.nan}], ["y"]),
    ],
)
def test_nothing_to_plot_is_said(rows: list[Row], metrics: list[str]) -> None:
    with pytest.raises(
        FixThis, match="nothing to plot: no job that succeeded has a number measured"
    ):
        choose_axes(rows, ["a"], metrics)


def test_a_column_of_text_is_no_y() -> None:
    with pytest.raises(FixThis, match="no job has a finite number in the column 'state'"):
        choose_axes([{"a": 1, "state": "failed", "y": 1}], ["a"], ["y"], y="state")


def test_many_lines_are_thinned_out_and_said(tmp_path: Path) -> None:
    rows = grid(a=[1, 2, 3], b=list(range(50)))
    picture = drawn(rows, choose_axes(rows, ["a", "b"], ["y"]), tmp_path)
    assert "b (12 of 50)" in picture
    assert "<!-- 49 -->" in picture


def test_a_format_that_cannot_be_written(tmp_path: Path) -> None:
    rows = grid(a=[1, 2])
    with pytest.raises(FixThis, match=r"x\.xyz: the plot cannot be written: .*supported formats"):
        draw(rows, Axes("a", "y", None), tmp_path / "x.xyz")
