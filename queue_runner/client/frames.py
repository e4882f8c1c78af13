"""Results as data frames and files: polars, pandas, Parquet. The libraries are optional."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from queue_runner.errors import MissingTool
from queue_runner.tables import Row, columns


def to_frame(rows: Iterable[Row], library: Literal["polars", "pandas"] = "polars") -> Any:
    """A data frame with a column for every name that any row has; missing values are null.

    Raises `MissingTool` when the library is not installed, `ValueError` for another library.
    """
    listed = list(rows)
    names = columns(listed)
    data = {name: [row.get(name) for row in listed] for name in names}
    if library == "polars":
        polars = _import("polars")
        series = [polars.Series(name, values, strict=False) for name, values in data.items()]
        return polars.DataFrame(series)
    if library == "pandas":
        return _import("pandas").DataFrame(data, columns=names)
    raise ValueError(f"library is 'polars' or 'pandas', not {library!r}")


def write_parquet(rows: Iterable[Row], path: Path) -> None:
    frame = to_frame(rows, "polars")
    # polars reports a path that cannot be written with errors of its own
    with path.open("wb") as file:
        frame.write_parquet(file)


def _import(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingTool(
            f"{name} is not installed; install it with: pip install 'queue-runner[table]'"
        ) from error
