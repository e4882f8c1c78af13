"""How a case is cut into pieces: one for each rank."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from queue_runner.errors import JobError
from queue_runner.model import Reason
from queue_runner.openfoam import entries
from queue_runner.workers.openfoam.assignments import assign

FILE = "system/decomposeParDict"
_HEAD = "FoamFile { version 2.0; format ascii; class dictionary; object decomposeParDict; }\n"
_GEOMETRIC = ("simple", "hierarchical")


def write(case: Path, ranks: int, asked: Mapping[str, Any] | None) -> None:
    """As the study asks; else as the case has it, fitted to `ranks`; else `simple`. Raises `JobError`.

    The dictionaries of regions, where a case has them, get the same.
    """
    regions = sorted((case / "system").glob("*/decomposeParDict"))
    for file in (FILE, *(path.relative_to(case).as_posix() for path in regions)):
        if asked is not None or not (case / file).is_file():
            _write_new(case, file, ranks, asked or {})
        else:
            _fit(case, file, ranks)


def describe(case: Path) -> str:
    """Method and, where the dictionary has them, its numbers: `simple (2 1 1)`."""
    if not (case / FILE).is_file():
        return "unknown"
    try:
        said = entries.read(case, case / FILE)
    except ValueError:
        return "unknown"
    method = str(said.values.get(("method",), "unknown"))
    numbers = _numbers(said, _coefficients(said, method))
    return f"{method} ({' '.join(map(str, numbers))})" if numbers else method


def _write_new(case: Path, file: str, ranks: int, asked: Mapping[str, Any]) -> None:
    method = asked.get("method", "simple")
    coeffs = dict(asked.get("coeffs") or {})
    if method in _GEOMETRIC:
        coeffs = {"n": asked.get("n") or [ranks, 1, 1], "delta": 0.001, **coeffs}
        if method == "hierarchical":
            coeffs.setdefault("order", "xyz")
    (case / file).write_text(_HEAD)
    wanted = {"numberOfSubdomains": ranks, "method": method}
    if coeffs:
        wanted[f"{method}Coeffs"] = coeffs
    assign(case, [[file, key, value] for key, value in wanted.items()], must_exist=False)


def _fit(case: Path, file: str, ranks: int) -> None:
    try:
        said = entries.read(case, case / file)
    except ValueError as error:
        raise JobError(Reason.PREPARE, f"{file}: {error}") from error
    changes: list[list[Any]] = [["numberOfSubdomains", ranks]]
    method = str(said.values.get(("method",), ""))
    if method in _GEOMETRIC:
        changes += _fitted(said, method, ranks)
    assign(case, [[file, *change] for change in changes], must_exist=False)


def _fitted(said: entries.Entries, method: str, ranks: int) -> list[list[Any]]:
    """The user's `n` where it makes as many pieces as there are ranks, else slices along x."""
    place = _coefficients(said, method)
    if place is None:
        whole = {"n": [ranks, 1, 1], "delta": 0.001}
        return [[f"{method}Coeffs", whole | ({"order": "xyz"} if method != "simple" else {})]]
    numbers = _numbers(said, place)
    written = (place, "n") in said.values
    if written and (numbers is None or math.prod(numbers) == ranks):
        # with macros in it, OpenFOAM knows better
        return []
    return [[f"{place}/n", [ranks, 1, 1]]]


def _coefficients(said: entries.Entries, method: str) -> str | None:
    names = (f"{method}Coeffs", "coeffs")
    return next((name for name in names if (name,) in said.dictionaries), None)


def _numbers(said: entries.Entries, place: str | None) -> list[int] | None:
    found = said.values.get((place, "n")) if place else None
    try:
        numbers = [int(each) for each in found or ()]
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == 3 else None
