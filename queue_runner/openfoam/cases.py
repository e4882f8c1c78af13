"""What a case folder says of its run: the application, when it starts and ends, its time folders."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queue_runner.openfoam import entries

CONTROL = "system/controlDict"
_TIME = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

#: Comments, code between #{ and #}, and texts in quotes with a brace in them.
_NOT_PLAIN = re.compile(r"/\*.*?\*/|//[^\n]*|#\{.*?#\}|\"[^\"\n]*[{}();][^\"\n]*\"", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Control:
    """What controlDict says. application: None where it names none, or where that cannot be read.

    starts_from: `startTime`, `firstTime` or `latestTime`. Times are in the units of the case (s for most),
    and None where they are not said or cannot be read.
    """

    application: str | None
    starts_from: str
    start_time: float | None
    end_time: float | None


def control(case: Path) -> Control:
    """Raises `ValueError` in words for a controlDict that is not there or cannot be read."""
    values = _control_values(case)
    name = str(values.get(("application",), "")).strip('"')
    return Control(
        application=name if name and not name.startswith(("$", "#")) else None,
        # as Time.C of OpenFOAM has it where the entry is missing
        starts_from=str(values.get(("startFrom",), "latestTime")),
        start_time=_float(values.get(("startTime",))),
        end_time=_end(values),
    )


@dataclass(frozen=True, slots=True)
class Writing:
    """How a case writes its times. purge: how many stay, 0 for all; exact: no digit is lost."""

    purge: int | None
    exact: bool


#: Decimal digits that make a double the same again.
_EXACT_DIGITS = 17


def writing(case: Path, assigned: Mapping[str, Any]) -> Writing:
    """As controlDict says it, with these entries in place of its own. Raises `ValueError`."""
    values = {key[0]: value for key, value in _control_values(case).items() if len(key) == 1}
    values |= assigned
    purge, precision = values.get("purgeWrite", 0), _float(values.get("writePrecision", 6))
    exact = str(values.get("writeFormat", "ascii")) == "binary"
    return Writing(
        purge=int(purge) if _float(purge) is not None else None,
        exact=exact or precision is None or precision >= _EXACT_DIGITS,
    )


def times(case: Path) -> dict[str, float]:
    """The time folders of a case (or of one of its `processor` folders), in the order of time."""
    found = {
        each.name: float(each.name)
        for each in case.iterdir()
        if _TIME.fullmatch(each.name) and each.is_dir()
    }
    return dict(sorted(found.items(), key=lambda item: item[1]))


def start(case: Path, said: Control) -> float | None:
    """The time that a run of the case starts from; None where that cannot be told."""
    if said.starts_from == "startTime":
        return said.start_time
    found = list(times(case).values())
    if not found:
        return None
    return found[0] if said.starts_from == "firstTime" else found[-1]


def leftovers(case: Path, said: Control) -> list[str]:
    """Time folders that an earlier run has left: those after the start, where that is fixed.

    A run that starts from `latestTime` goes on from the last of them, so there they are no leftovers.
    """
    begin = start(case, said) if said.starts_from != "latestTime" else None
    if begin is None:
        return []
    return [
        name
        for name, time in times(case).items()
        if time > begin and not math.isclose(time, begin, rel_tol=1e-9)
    ]


def _control_values(case: Path) -> Mapping[entries.Keys, Any]:
    path = case / CONTROL
    if not path.is_file():
        raise ValueError(f"the case has no {CONTROL}")
    return _values(case, path)


def _values(case: Path, path: Path) -> Mapping[entries.Keys, Any]:
    try:
        return entries.read(case, path).values
    except ValueError:
        # code, computed names and newer syntax are for OpenFOAM to read; what is asked for here is plain
        return _plain(path.read_text(errors="replace"))


def _plain(text: str) -> dict[entries.Keys, Any]:
    """The entries of one word or number that stand in no dictionary."""
    depth, found = 0, dict[entries.Keys, Any]()
    for part in re.split(r"([{}();])", _NOT_PLAIN.sub(" ", text)):
        depth += (part in "{(" and part != "") - (part in "})" and part != "")
        words = part.split()
        if depth == 0 and len(words) == 2:
            found[(words[0],)] = float(words[1]) if _TIME.fullmatch(words[1]) else words[1]
    return found


def _end(values: Mapping[entries.Keys, Any]) -> float | None:
    return _float(values.get(("endTime",))) if values.get(("stopAt",)) == "endTime" else None


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
