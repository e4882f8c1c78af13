"""Which place in a study's document an error is about, so that it can be told with its line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from queue_runner.study.braces import Template as Braces
from queue_runner.study.expressions import ExpressionError
from queue_runner.study.problems import field_name


def blame(document: Mapping[str, Any], path: tuple[str, ...], error: ExpressionError) -> Any:
    """The deepest place in the document whose text the error quotes."""

    def search(value: Any, here: tuple[str | int, ...]) -> tuple[str | int, ...] | None:
        if isinstance(value, Mapping):
            inside = [search(each, (*here, str(key))) for key, each in value.items()]
        elif isinstance(value, list):
            inside = [search(each, (*here, place)) for place, each in enumerate(value)]
        elif isinstance(value, str):
            try:
                Braces(value, error_names)
            except ExpressionError as found:
                return here if str(found) == str(error) else None
            return None
        else:
            return None
        return next((found for found in inside if found is not None), None)

    error_names = _known_names(document)
    return search(document.get(path[0]), path[:1]) or path


def failing(
    value: Any, here: tuple[str | int, ...], names: Mapping[str, Any], error: ValueError
) -> tuple[str | int, ...] | None:
    """Where in `value` the text is that gives this error at a point."""
    if isinstance(value, Mapping | list):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        inside = (failing(each, (*here, key), names, error) for key, each in items)
        return next((found for found in inside if found is not None), None)
    try:
        filled = Braces(value, names).fill(names)
    except ExpressionError as found:
        return here if str(found) == str(error) else None
    # a count that is none, as `whole` says it
    counted = str(error).startswith(f"{field_name(here)}: expected a whole number")
    return here if counted and filled is not value else None


def _known_names(document: Mapping[str, Any]) -> set[str]:
    points = document.get("points") or {}
    columns = points.get("columns", []) if isinstance(points, Mapping) else list(points[0])
    return {*document.get("parameters", {}), *document.get("derived", {}), *columns, "point"}
