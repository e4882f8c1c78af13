"""A picture of a study: one measured value over one parameter, a line for each value of a second.

What to draw is chosen from the rows unless it is named: the first parameter with several numbers on
the x axis, the first metric that varies on the y axis, the second varying parameter as lines.
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


@dataclass(frozen=True, slots=True)
class Axes:
    x: str
    y: str
    by: str | None


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
    x = x or next(iter(numbers or varying or list(parameters)), None)
    measured = [name for name in metrics if _numeric(rows, name)]
    y = y or next((name for name in measured if _varies(rows, name)), None)
    y = y or next(iter(measured), None)
    if x is None or y is None:
        raise FixThis("nothing to plot: no job that succeeded has a number measured")
    by = by or next((name for name in varying if name not in (x, y)), None)
    return Axes(x, y, by)


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
            plane.plot(xs, ys, marker="o", markersize=4, linewidth=1.4, label=label)
        _scale(plane, rows, axes)
        plane.set(xlabel=axes.x, ylabel=axes.y, title=title)
        plane.grid(visible=True, alpha=0.3)
        if axes.by is not None:
            plane.legend(title=axes.by, fontsize="small")
        try:
            figure.savefig(path)
        except (OSError, ValueError) as error:
            raise FixThis(f"{path}: the plot cannot be written: {error}") from error


def _lines(rows: Sequence[Row], axes: Axes) -> list[tuple[str, list[tuple[Any, Any]]]]:
    lines: dict[object, list[tuple[Any, Any]]] = {}
    for row in rows:
        point = (row.get(axes.x), row.get(axes.y))
        if point[0] is not None and _is_number(point[1]):
            lines.setdefault(row.get(axes.by) if axes.by else None, []).append(point)
    shown = list(lines.items())[:_MAX_LINES]
    return [(_label(value), sorted(points, key=_order)) for value, points in shown]


def _order(point: tuple[Any, Any]) -> tuple[int, Any]:
    return (0, point[0]) if _is_number(point[0]) else (1, str(point[0]))


def _label(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _scale(plane: Any, rows: Sequence[Row], axes: Axes) -> None:
    for name, setter in ((axes.x, plane.set_xscale), (axes.y, plane.set_yscale)):
        values = [value for row in rows if _is_number(value := row.get(name))]
        if len(values) > 2 and min(values) > 0 and max(values) / min(values) > 100:
            setter("log")


def _varies(rows: Sequence[Row], name: str) -> bool:
    return len({row.get(name) for row in rows}) > 1


def _numeric(rows: Sequence[Row], name: str) -> bool:
    return any(_is_number(row.get(name)) for row in rows)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
