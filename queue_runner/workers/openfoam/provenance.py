"""What a case was solved with, from the head of its solver's log and from its dictionaries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_HEAD_LINES = 40
# Debian leaves the version of the banner empty
_VERSION = re.compile(r"\|\s*Version:\s+([^\s|]+)|^Build\s*:.*\bOPENFOAM=(\S+)")
_BUILD = re.compile(r"^Build\s*:\s*(.+?)\s*$")


def solver(log: Path) -> dict[str, str]:
    """Version and build of OpenFOAM as the solver printed them; nothing where it printed no head."""
    facts: dict[str, str] = {}
    if not log.is_file():
        return facts
    with log.open(errors="replace") as lines:
        for _, line in zip(range(_HEAD_LINES), lines, strict=False):
            if found := _VERSION.search(line):
                facts.setdefault("openfoam", found[1] or found[2])
            if found := _BUILD.match(line):
                facts["openfoam_build"] = found[1]
    return facts


def decomposition(folder: Path) -> str:
    """Method and, where the dictionary has them, its numbers: `simple (2 1 1)`."""
    from foamlib import FoamFile

    path = folder / "system" / "decomposeParDict"
    if not path.is_file():
        return "unknown"
    wanted = FoamFile(path).as_dict()
    method = str(wanted.get("method", "unknown"))
    coefficients: Any = wanted.get(f"{method}Coeffs") or wanted.get("coeffs") or {}
    numbers = coefficients.get("n") if isinstance(coefficients, Mapping) else None
    if numbers is None:
        return method
    return f"{method} ({' '.join(str(int(each)) for each in numbers)})"
