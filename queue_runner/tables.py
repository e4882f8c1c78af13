"""A result as one flat row: the columns of every table, CSV, JSON and Parquet file."""

from __future__ import annotations

from collections.abc import Sequence

from queue_runner.model import Result, Scalar

Row = dict[str, Scalar]

#: Columns around the parameters and the metrics; a parameter or metric of such a name gets a suffix.
_LEADING = ("index",)
_TRAILING = ("state", "reason", "attempt")
_LAST = ("wall_s", "worker", "job")


def flatten(result: Result, parameters: Sequence[str]) -> Row:
    """index, parameters (in the study's order), state, reason, attempt, metrics, wall_s, worker, job.

    reason: None unless it failed; wall_s: seconds from start to end by the worker's clock.
    """
    row: Row = {"index": result.index}
    for name in [*parameters, *result.point]:
        row[_free(name)] = result.point.get(name)
    row["state"] = result.state.value
    row["reason"] = result.failure.reason if result.failure is not None else None
    row["attempt"] = result.attempt
    for name, value in result.metrics.items():
        column = _free(name)
        row[f"{column}_measured" if column in row else column] = value
    row["wall_s"] = round(max(0.0, result.finished_at - result.started_at), 6)
    row["worker"] = result.worker
    row["job"] = result.job_id
    return row


def _free(name: str) -> str:
    return f"{name}_" if name in (*_LEADING, *_TRAILING, *_LAST) else name
