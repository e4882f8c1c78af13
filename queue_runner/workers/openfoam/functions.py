"""The last line of what function objects write under postProcessing."""

from __future__ import annotations

import re
from pathlib import Path

from queue_runner.errors import JobError
from queue_runner.model import Reason, Scalar
from queue_runner.plugins import nearest
from queue_runner.workers.measure import scalar

_TAIL_BYTES = 256 * 1024
_CELL = re.compile(r"\([^()]*\)|[^\s()]+")


def last_line(case: Path, function: str) -> dict[str, Scalar]:
    """`function.column` for each value of the last line; vectors get `.x`, `.y`, `.z`.

    Where it writes several files, or one named after a field (as probes do): `function.file.column`.
    Columns without a name are numbered from 0. Raises `JobError`.
    """
    files = _files(case, function)
    metrics: dict[str, Scalar] = {}
    for path in files:
        alone = len(files) == 1 and path.suffix == ".dat"
        prefix = function if alone else f"{function}.{path.name.removesuffix('.dat')}"
        for name, value in _read(function, path).items():
            metrics[f"{prefix}.{name}"] = value
    return metrics


def _files(case: Path, function: str) -> list[Path]:
    root = case / "postProcessing"
    starts = sorted((path for path in (root / function).glob("*") if path.is_dir()), key=_time)
    files = sorted(path for path in starts[-1].iterdir() if path.is_file()) if starts else []
    if not files:
        there = [path.name for path in root.glob("*")] if root.is_dir() else []
        raise JobError(
            Reason.METRICS,
            f"function object {function!r} wrote nothing under postProcessing{nearest(function, there)}",
        )
    return files


def _time(folder: Path) -> float:
    try:
        return float(folder.name)
    except ValueError:
        return -1.0


def _read(function: str, path: Path) -> dict[str, Scalar]:
    header, row = _header_and_row(path)
    if row is None:
        raise JobError(Reason.METRICS, f"{path.name} of function object {function!r} has no values")
    flat_names = re.sub(r"[()]", " ", header).split()
    flat = re.sub(r"[()]", " ", row).split()
    if len(flat_names) == len(flat):
        return {name: scalar(text) for name, text in list(zip(flat_names, flat, strict=True))[1:]}
    values: dict[str, Scalar] = {}
    for number, cell in enumerate(_CELL.findall(row)[1:]):
        parts = cell.strip("()").split()
        names = [f"{number}"] if len(parts) == 1 else _components(number, len(parts))
        values.update(zip(names, map(scalar, parts), strict=True))
    return values


def _components(number: int, count: int) -> list[str]:
    names = "xyz" if count == 3 else [str(each) for each in range(count)]
    return [f"{number}.{name}" for name in names]


def _header_and_row(path: Path) -> tuple[str, str | None]:
    """The last comment line above the values, and the last line of values."""
    header = ""
    with path.open(errors="replace") as lines:
        for line in lines:
            if not line.startswith("#"):
                break
            header = line.lstrip("# \t").strip()
    with path.open("rb") as content:
        content.seek(0, 2)
        content.seek(max(0, content.tell() - _TAIL_BYTES))
        tail = content.read().decode(errors="replace").splitlines()
    rows = [line for line in tail if line.strip() and not line.startswith("#")]
    return header, rows[-1] if rows else None
