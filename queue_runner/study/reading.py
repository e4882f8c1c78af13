"""Out of a study's document: plain values, its points, its kind and that kind's section."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from queue_runner import plugins
from queue_runner.errors import StudyError, UnknownScheme
from queue_runner.study import schema
from queue_runner.study.kinds.base import GROUP, Place, StudyKind
from queue_runner.study.problems import Problems
from queue_runner.study.rows import read_csv


def plain_values(value: Any) -> Any:
    """Plain values out of what a notebook may hold: tuples, paths, numpy numbers and arrays."""
    if isinstance(value, Mapping):
        return {str(key): plain_values(each) for key, each in value.items()}
    if isinstance(value, str | int | float | bool) or value is None:
        # a subclass such as numpy.float64 travels as the plain number
        plain: Any = next((t for t in (bool, str, int, float) if isinstance(value, t)), None)
        return value if plain is None or type(value) is plain else plain(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain_values(value.tolist())
    if isinstance(value, Sequence | range | set | frozenset):
        return [plain_values(each) for each in value]
    return value


def with_points(document: Mapping[str, Any], place: Place, problems: Problems) -> Mapping[str, Any]:
    """The document with the rows of its CSV file in it, so that it stands on its own."""
    points = document.get("points")
    if not isinstance(points, str):
        return document
    try:
        return {**document, "points": read_csv(place.find(points))}
    except (ValueError, StudyError) as error:
        problems.add(("points",), str(error).removeprefix("points: "))
        return {key: value for key, value in document.items() if key != "points"}


def kind_of(document: Mapping[str, Any], problems: Problems) -> tuple[str, StudyKind]:
    name = document.get("kind")
    if not isinstance(name, str):
        known = ", ".join(plugins.names(GROUP))
        problems.add(("kind",) if name is not None else (), f"expected 'kind', one of {known}")
        _rest(document, problems)
    assert isinstance(name, str)
    try:
        return name, plugins.load(GROUP, name)()
    except UnknownScheme as error:
        problems.add(("kind",), str(error).replace("study kind", "kind"))
        _rest(document, problems)
        raise AssertionError("unreachable") from error


def _rest(document: Mapping[str, Any], problems: Problems) -> None:
    """Of a study without a kind: what else is wrong, such as a misspelt `kind`. Raises `StudyError`."""
    sections = ("kind", *plugins.names(GROUP))
    common = {key: value for key, value in document.items() if key not in sections}
    schema.validate(schema.StudyModel, {**common, "kind": ""}, (), problems)
    problems.check()


def section_of(kind: StudyKind, name: str, document: Mapping[str, Any], problems: Problems) -> Any:
    others = [each for each in plugins.names(GROUP) if each != name and each in document]
    for other in others:
        problems.found[:] = [each for each in problems.found if each.path != (other,)]
        problems.add((other,), f"this section is for kind {other}; the study's kind is {name}")
    if name not in document:
        near = difflib.get_close_matches(name, document, n=1)
        hint = f" (is {near[0]!r} meant?)" if near else ""
        problems.add((), f"the section {name!r} is missing: it says what to run{hint}")
        return None
    section = schema.validate(kind.Section, document[name], (name,), problems)
    measure = document.get("measure")
    if isinstance(measure, Mapping) and "openfoam" in measure and name != "openfoam":
        problems.add(("measure", "openfoam"), f"only for kind openfoam; the study's kind is {name}")
    return section


def sound(problems: Problems) -> bool:
    """Whether the fields that the space reads are of the types that it expects."""
    fields = ("parameters", "zip", "sample", "open", "derived", "where")
    return not any(problem.path[:1] == (field,) for problem in problems.found for field in fields)
