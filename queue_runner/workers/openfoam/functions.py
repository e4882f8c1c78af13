"""The last values of what function objects write under postProcessing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from queue_runner.errors import JobError
from queue_runner.model import Reason, Scalar
from queue_runner.plugins import nearest
from queue_runner.workers.leavings import lines_of, open_file
from queue_runner.workers.measure import scalar

_TAIL_BYTES = 256 * 1024
_AXES = "xyz"


def last_line(case: Path, function: str) -> dict[str, Scalar]:
    """`function.column` for each value of the last line; vectors get `.x`, `.y`, `.z`.

    Where it writes several files, or one named after a field (as probes do): `function.file.column`.
    Columns without a name are numbered from 0. Where the last time has several lines, as fieldMinMax
    writes them, the text in each tells them apart: `function.p.min`. The function of a region has the
    region before it: `fluid/function`. Raises `JobError`.
    """
    files = _files(case, function)
    metrics: dict[str, Scalar] = {}
    for path, header, rows in files:
        alone = len(files) == 1 and path.suffix == ".dat"
        prefix = function if alone else f"{function}.{path.name.removesuffix('.dat')}"
        for name, value in _values(header, rows):
            metrics[_unused(f"{prefix}.{name}", metrics)] = value
    return metrics


def _files(case: Path, function: str) -> list[tuple[Path, str, list[str]]]:
    """The files of the last start that wrote values: header, and the lines of the last time."""
    root = case / "postProcessing"
    name = PurePosixPath(function)
    if name.is_absolute() or ".." in name.parts:
        raise _wrong(f"function object {function!r} leads outside postProcessing; write its name")
    starts = sorted((path for path in (root / function).glob("*") if path.is_dir()), key=_time)
    empty = []
    for start in reversed(starts):
        read = [(path, *_read(path)) for path in sorted(start.iterdir()) if path.is_file()]
        if found := [(path, header, rows) for path, header, rows in read if rows]:
            return found
        empty += [path for path, _, _ in read]
    if empty:
        raise _wrong(f"{empty[0].name} of function object {function!r} has no values")
    raise _wrong(
        f"function object {function!r} wrote nothing under postProcessing"
        f"{nearest(function, _there(root))}"
    )


def _there(root: Path) -> list[str]:
    """Folders that hold start times: function objects, with their region where they have one."""
    starts = {path.parent for path in root.glob("*/*") if path.is_dir() and _time(path) >= 0}
    starts |= {path.parent for path in root.glob("*/*/*") if path.is_dir() and _time(path) >= 0}
    return sorted(path.relative_to(root).as_posix() for path in starts)


def _time(folder: Path) -> float:
    try:
        return float(folder.name)
    except ValueError:
        return -1.0


def _read(path: Path) -> tuple[str, list[str]]:
    """The last comment line above the values, and the lines of the last time."""
    header = ""
    with lines_of(path) as lines:
        for line in lines:
            if not line.startswith("#"):
                break
            header = line.lstrip("# \t").strip()
    with open_file(path) as content:
        content.seek(0, 2)
        size = content.tell()
        content.seek(max(0, size - _TAIL_BYTES))
        tail = content.read(_TAIL_BYTES).decode(errors="replace").splitlines()
    if size > _TAIL_BYTES:
        # the first line begins before what was read
        del tail[:1]
    rows = [line for line in tail if line.strip() and not line.startswith("#")]
    if not rows:
        return header, []
    last = _cells(rows[-1])[:1]
    return header, [row for row in rows if row.split(None, 1)[:1] == last]


def _values(header: str, rows: Sequence[str]) -> Iterator[tuple[str, Scalar]]:
    tables = [list(_row(header, row)) for row in rows]
    if len(tables) == 1:
        yield from tables[0]
        return
    told_apart = any(isinstance(value, str) for _, value in tables[0])
    if not told_apart:
        # profiles, such as sampled sets, have many lines of numbers: the last one is as good as any
        yield from tables[-1]
        return
    for table in tables:
        text = next((str(value) for _, value in table if isinstance(value, str)), "")
        for name, value in table:
            if not isinstance(value, str):
                yield f"{text}.{name}", value


def _row(header: str, row: str) -> Iterator[tuple[str, Scalar]]:
    cells = _cells(row)[1:]
    for name, cell in zip(_names(header, cells), cells, strict=True):
        yield from _expanded(name, cell)


def _expanded(name: str, cell: str) -> Iterator[tuple[str, Scalar]]:
    if not (cell.startswith("(") and cell.endswith(")")):
        yield name, scalar(cell)
        return
    parts = _cells(cell[1:-1])
    if len(parts) == 1:
        yield from _expanded(name, parts[0])
        return
    for each, part in zip(_parts(name, parts), parts, strict=True):
        yield from _expanded(each, part)


def _parts(name: str, parts: Sequence[str]) -> list[str]:
    """Names for the parts of a cell: those in the column's name where they fit, else x, y, z or numbers."""
    word, _, inside = name.partition("(")
    inner = _cells(inside.removesuffix(")"))
    if len(inner) == len(parts):
        return [f"{word}.{each}" if word else each for each in inner]
    plain = name if word else "_".join(inner)
    axes: Sequence[str] = _AXES if len(parts) == 3 else [str(each) for each in range(len(parts))]
    return [f"{plain}.{axis}" for axis in axes]


def _names(header: str, cells: Sequence[str]) -> list[str]:
    """A name for each cell: those of the header where they fit, else numbers."""
    names = _cells(header)[1:]
    if len(names) == len(cells):
        return names
    if "(" in header and not re.search(r"[^\s(]\(", header):
        # groups of names for groups of values, which older versions do not write alike
        flat = header.replace("(", " ").replace(")", " ").split()[1:]
        if len(flat) == len(cells):
            return flat
    return [str(number) for number in range(len(cells))]


def _cells(line: str) -> list[str]:
    """Words; what is in parentheses belongs together, with the word before it."""
    cells, cell, depth = [], "", 0
    for character in line:
        if depth == 0 and character.isspace():
            if cell:
                cells.append(cell)
            cell = ""
            continue
        depth = max(0, depth + (character == "(") - (character == ")"))
        cell += character
    return [*cells, cell] if cell else cells


def _unused(name: str, used: dict[str, Scalar]) -> str:
    number = 2
    wanted = name
    while name in used:
        name = f"{wanted}.{number}"
        number += 1
    return name


def _wrong(text: str) -> JobError:
    return JobError(Reason.METRICS, text)
