"""Points out of a CSV file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from queue_runner.errors import StudyError
from queue_runner.model import Scalar
from queue_runner.study.problems import short
from queue_runner.study.texts import MIB, read_text

#: The rows travel with the study, which takes less than this.
_MAX_BYTES = 32 * MIB
_TOO_LARGE = "split it into several studies, or describe the points with ranges or samples"
_MAX_COLUMNS = 1000


def read_csv(file: Path) -> dict[str, Any]:
    """The rows of a CSV file as `{"columns": [...], "rows": [[...], ...]}`. Raises `StudyError`.

    The first row names the parameters. Numbers become numbers, `true` and `false` truth values.
    """
    text = read_text(file, _MAX_BYTES, _TOO_LARGE, "utf-8-sig")
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    # of a quote that is never closed this is of more use than the line where it all ended
    begun = 1
    try:
        columns = [name.strip() for name in next(reader, [])]
        _check_columns(columns, file)
        rows = []
        begun = reader.line_num + 1
        for cells in reader:
            if any(cell.strip() for cell in cells):  # spreadsheets end with lines of commas
                rows.append(_values(cells, columns, f"{file.name}:{begun}"))
            begun = reader.line_num + 1
    except csv.Error as error:
        raise StudyError(f"{file.name}:{begun}: {_said(error)}") from error
    if not columns or not rows:
        raise StudyError(
            f"{file.name}: expected a first row of names and at least one row of values"
        )
    return {"columns": columns, "rows": rows}


def _said(error: csv.Error) -> str:
    if "field limit" in str(error):
        return f"a value of more than {csv.field_size_limit()} characters, or a quote that is never closed"
    return str(error)


def _check_columns(columns: Sequence[str], file: Path) -> None:
    if len(columns) > _MAX_COLUMNS:
        raise StudyError(
            f"{file.name}:1: {len(columns)} columns, of which the limit is {_MAX_COLUMNS}"
        )
    for separator in (";", "\t"):
        if len(columns) == 1 and separator in columns[0]:
            raise StudyError(
                f"{file.name}:1: the columns are separated by {separator!r}; save it with commas, and"
                " with points in its numbers"
            )
    for number, name in enumerate(columns, 1):
        if not name:
            raise StudyError(f"{file.name}:1: column {number} has no name")


def _values(cells: Sequence[str], columns: Sequence[str], where: str) -> list[Scalar]:
    if len(cells) != len(columns):
        raise StudyError(
            f"{where}: expected {len(columns)} values ({short(', '.join(columns))[1:-1]}), found {len(cells)}"
        )
    return [value_of(cell.strip(), where) for cell in cells]


def value_of(text: str, where: str) -> Scalar:
    """What a cell of a table says. Raises `StudyError` with `where`."""
    if not text:
        raise StudyError(f"{where}: a value is missing")
    if "\0" in text:
        raise StudyError(f"{where}: a NUL character, which no text of a study has: {short(text)}")
    if (number := _number(text)) is None:
        return {"true": True, "false": False}.get(text.lower(), text)
    if not math.isfinite(number):
        raise StudyError(f"{where}: expected finite numbers, found {text}")
    return number


def _number(text: str) -> int | float | None:
    if "_" in text or len(text) >= 100:
        return None
    try:
        whole = int(text)
        return whole if abs(whole) < 2**63 else float(whole)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None
