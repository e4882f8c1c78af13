"""A picture of a study: one measured value over one parameter, a line for each value of a second.

What to draw is chosen from the rows unless it is named: the first parameter with several numbers on
the x axis, the first metric that varies on the y axis (what the study measures of its own accord, such as
residuals, last), the second varying parameter as lines. Where more parameters vary than that, neighbours
on the x axis have nothing else in common, and the points are not joined.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from queue_runner.errors import FixThis, MissingTool
from queue_runner.tables import Row, columns

_MAX_LINES = 12
#: Metrics that are there without being asked for, the most telling first.
_UNASKED = ("last_time", "execution_time", "clock_time", "residual_")


@dataclass(frozen=True, slots=True)
class Axes:
    x: str
    y: str
    by: str | None
    joined: bool = True


def choose_axes(
    rows: Sequence[Row],
    parameters: Sequence[str],
    metrics: Sequence[str],
    *,
    x: str | None = None,
    y: str | None = None,
    by: str | None = None,
) -> Axes:
    """Settle what to draw. Raises `FixThis` for a column that is not there, or nothing to draw."""
    known = columns(rows)
    for name in (x, y, by):
        if name is not None and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise FixThis(f"no column {name!r}; there are: {', '.join(known)}.{hint}")
    varying = [name for name in parameters if name != by and _varies(rows, name)]
    numbers = [name for name in varying if _numeric(rows, name)]
    x = x or next(iter(numbers or varying or list(parameters)), "index")
    y = y or _metric(rows, metrics)
    if not _numeric(rows, y):
        raise FixThis(f"nothing to plot: no job has a finite number in the column {y!r}")
    others = [name for name in varying if name not in (x, y)]
    by = by or next((name for name in others if _groups(rows, name)), None)
    return Axes(x, y, by, joined=not set(others) - {by})


def _metric(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    measured = sorted((name for name in metrics if _numeric(rows, name)), key=_unasked)
    if not measured:
        raise FixThis(
            "nothing to plot: no job that succeeded has a number measured. What to measure is said under"
            " `measure` in the study file."
        )
    return next((name for name in measured if _varies(rows, name)), measured[0])


def _unasked(metric: str) -> int:
    places = [place for place, word in enumerate(_UNASKED, 1) if metric.startswith(word)]
    return places[0] if places else 0


def _groups(rows: Sequence[Row], name: str) -> bool:
    """Whether several rows share each value on average: lines of one point each say nothing."""
    return 2 * len({row.get(name) for row in rows}) <= len(rows)


def draw(rows: Sequence[Row], axes: Axes, path: Path, *, title: str = "") -> None:
    """Write the picture; its format follows the suffix (.png, .svg, .pdf)."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingTool(
            "matplotlib is not installed; install it with: pip install 'queue-runner[plot]'"
        ) from error
    with mpl.rc_context({"svg.hashsalt": "queue-runner"}):
        figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
        plane = figure.add_subplot()
        for label, points in _lines(rows, axes):
            xs, ys = zip(*points, strict=True)
            width = 1.4 if axes.joined else 0
            plane.plot(xs, ys, marker="o", markersize=4, linewidth=width, label=label)
        _scale(plane, rows, axes)
        plane.set(xlabel=axes.x, ylabel=axes.y, title=title)
        plane.grid(visible=True, alpha=0.3)
        if axes.by is not None:
            plane.legend(title=_legend(rows, axes), fontsize="small")
        try:
            figure.savefig(path)
        except (OSError, ValueError) as error:
            raise FixThis(f"{path}: the plot cannot be written: {error}") from error


def _lines(rows: Sequence[Row], axes: Axes) -> list[tuple[str, list[tuple[Any, Any]]]]:
    lines: dict[object, list[tuple[Any, Any]]] = {}
    drawn = [row for row in rows if row.get(axes.x) is not None and _is_number(row.get(axes.y))]
    numbers = all(_is_number(row.get(axes.x)) for row in drawn)
    for row in drawn:
        x = row.get(axes.x)
        point = (x if numbers else _label(x), row.get(axes.y))
        lines.setdefault(row.get(axes.by) if axes.by else None, []).append(point)
    shown = _spread(list(lines.items()))
    # words keep the order of the study
    return [(_label(value), sorted(points) if numbers else points) for value, points in shown]


def _spread(lines: list[Any]) -> list[Any]:
    """At most `_MAX_LINES` of them, from the first to the last."""
    last = len(lines) - 1
    if last < _MAX_LINES:
        return lines
    return [lines[round(place * last / (_MAX_LINES - 1))] for place in range(_MAX_LINES)]


def _legend(rows: Sequence[Row], axes: Axes) -> str:
    count = len({row.get(axes.by) for row in rows if _is_number(row.get(axes.y))}) if axes.by else 0
    return f"{axes.by} ({_MAX_LINES} of {count})" if count > _MAX_LINES else str(axes.by)


def _label(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _scale(plane: Any, rows: Sequence[Row], axes: Axes) -> None:
    for name, setter in ((axes.x, plane.set_xscale), (axes.y, plane.set_yscale)):
        values = [value for row in rows if _is_number(value := row.get(name))]
        if len(values) > 2 and min(values) > 0 and max(values) / min(values) > 100:
            setter("log")


def _varies(rows: Sequence[Row], name: str) -> bool:
    """Failed jobs have no value, which is none of its values."""
    return len({value for row in rows if (value := row.get(name)) is not None}) > 1


def _numeric(rows: Sequence[Row], name: str) -> bool:
    return any(_is_number(row.get(name)) for row in rows)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
