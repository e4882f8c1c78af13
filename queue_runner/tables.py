"""A result as one flat row: the columns of every table, CSV, JSON and Parquet file."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from queue_runner.model import Result, Scalar

Row = Mapping[str, Scalar]

#: Columns around the parameters and the metrics; a parameter or metric of such a name gets a suffix.
_LEADING = ("index",)
_TRAILING = ("state", "reason", "attempt")
_LAST = ("wall_s", "worker", "job")


def flatten(result: Result, parameters: Sequence[str]) -> Row:
    """index, parameters (in the study's order), state, reason, attempt, metrics, wall_s, worker, job.

    reason: None unless it failed; wall_s: seconds from start to end by the worker's clock.
    """
    row: dict[str, Scalar] = {"index": result.index}
    for name in [*parameters, *result.point]:
        row[_free(name)] = result.point.get(name)
    row["state"] = result.state.value
    row["reason"] = result.failure.reason if result.failure is not None else None
    row["attempt"] = result.attempt
    for name, value in result.metrics.items():
        row[metric_column(name, row)] = value
    row["wall_s"] = round(max(0.0, result.finished_at - result.started_at), 6)
    row["worker"] = result.worker
    row["job"] = result.job_id
    return row


def fixed_columns(parameters: Sequence[str]) -> list[str]:
    """The columns of a table without a row: all but the metrics."""
    return [*_LEADING, *map(_free, parameters), *_TRAILING, *_LAST]


def metric_column(name: str, taken: Container[str]) -> str:
    """The column of a metric; `taken` are those of the parameters."""
    column = _free(name)
    return f"{column}_measured" if column in taken else column


def _free(name: str) -> str:
    return f"{name}_" if name in (*_LEADING, *_TRAILING, *_LAST) else name


def csv_lines(rows: Iterable[Row], names: Sequence[str] | None = None) -> Iterator[str]:
    """CSV (RFC 4180, with a header) line by line. Keeps all rows where `names` (of columns) is None."""
    if names is None:
        rows = list(rows)
        names = columns(rows)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n", extrasaction="raise")
    writer.writeheader()
    yield buffer.getvalue()
    for row in rows:
        buffer.seek(0)
        buffer.truncate()
        writer.writerow({name: _csv_cell(value) for name, value in row.items()})
        yield buffer.getvalue()


def _csv_cell(value: Scalar) -> Scalar:
    """Truth values as study files, JSON and every other table write them."""
    return str(value).lower() if isinstance(value, bool) else value


def json_lines(rows: Iterable[Row]) -> Iterator[str]:
    """A JSON array of maps, a row a line; what is not finite becomes null."""
    opening = "["
    for row in rows:
        yield f"{opening}\n  {json_row(row)}"
        opening = ","
    yield "[]\n" if opening == "[" else "\n]\n"


def json_row(row: Row) -> str:
    """A row as strict JSON, which has no words for NaN and infinity."""
    return json.dumps(finite(row), allow_nan=False)


def finite(value: Any) -> Any:
    """Plain values with null for every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value


def columns(rows: Iterable[Row]) -> list[str]:
    """All names, in the order in which they first appear."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    return list(names)
