"""Minimum, maximum and mean of fields at the last time, also of decomposed cases."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from queue_runner.errors import JobError
from queue_runner.model import Reason, Scalar
from queue_runner.openfoam import cases
from queue_runner.plugins import nearest

_CELLS = re.compile(r"\bnCells:\s*(\d+)")
_HEAD_BYTES = 4096


def measure_fields(
    case: Path, asked: Mapping[str, Sequence[str]], after: float | None = None
) -> dict[str, Scalar]:
    """`p_min`, `U_mag_max`, `U_x_mean`, ...; means are over cells, each counting the same.

    `after`: fields of this time and before are what the run began with, and no result. A name may have
    the region before it: `fluid/p`. Raises `JobError`.
    """
    metrics: dict[str, Scalar] = {}
    for field, statistics in asked.items():
        values, weights = _cells(case, field, after)
        for name, component in _components(field, values):
            for statistic in statistics:
                metrics[f"{name}_{statistic}"] = _statistic(statistic, component, weights)
    return metrics


def _statistic(name: str, values: Any, weights: Any) -> float:
    import numpy as np

    if name == "mean":
        return float(np.average(values, weights=weights))
    return float(getattr(values, name)())


def _cells(case: Path, field: str, after: float | None) -> tuple[Any, Any]:
    """One row for each cell, and how many cells each row stands for (None: one)."""
    import numpy as np

    paths = _files(case, field, after)
    read = [(path, _internal(path, field)) for path in paths]
    # a processor may be left without a cell
    full = [(path, part) for path, part in read if part.size]
    if not full:
        raise _wrong(f"field {field!r} has no values in {paths[0].relative_to(case)}")
    parts = [part for _, part in full]
    values = np.concatenate(parts)
    _refuse_lost(values, field, paths[0].relative_to(case))
    weights = None
    if len(parts) > 1 and any(len(part) == 1 for part in parts):
        # `uniform` is written for any number of cells
        counts = [
            _cell_count(path, case, field) if len(part) == 1 else len(part) for path, part in full
        ]
        weights = np.concatenate(
            [
                np.full(len(part), count / len(part))
                for part, count in zip(parts, counts, strict=True)
            ]
        )
    return values, weights


def _internal(path: Path, field: str) -> Any:
    """Shape (cells,) or (cells, components); a uniform field is one row."""
    import numpy as np
    from foamlib import FoamFieldFile

    try:
        file = FoamFieldFile(path)
        values = np.asarray(file.internal_field, dtype=float)
        kind = str(file["FoamFile", "class"])
    except Exception as error:
        raise _wrong(f"field {field}: cannot read {path.name}: {error}") from error
    if values.ndim == 0:
        return values.reshape(1)
    # a uniform vector is one cell's value, not three cells
    return values.reshape(1, -1) if values.ndim == 1 and "Scalar" not in kind else values


def _refuse_lost(values: Any, field: str, path: Path) -> None:
    import numpy as np

    lost = int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).sum())
    if lost:
        raise JobError(
            Reason.DIVERGED,
            f"field {field!r} at time {path.parts[0]} is not a number, or infinite, in {lost} of"
            f" {len(values)} cells",
        )


def _cell_count(path: Path, case: Path, field: str) -> int:
    """The cells of one processor, from the note that OpenFOAM writes at the head of `owner`."""
    root = case / path.relative_to(case).parts[0]
    region = Path(field).parent
    for name in ("owner", "owner.gz"):
        owner = root / "constant" / region / "polyMesh" / name
        if owner.is_file() and (found := _CELLS.search(_head(owner))):
            return int(found[1])
    raise _wrong(
        f"field {field!r} is uniform on {root.name}, whose number of cells is not known"
        f" ({root.name}/constant/polyMesh/owner has no note of it); add reconstructPar to the steps"
    )


def _head(path: Path) -> str:
    import gzip

    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as content:
        return content.read(_HEAD_BYTES).decode("latin-1")


def _components(field: str, values: Any) -> list[tuple[str, Any]]:
    import numpy as np

    if values.ndim == 1:
        return [(field, values)]
    named = [(f"{field}_mag", np.linalg.norm(values, axis=1))]
    if values.shape[1] == 3:
        named += [(f"{field}_{axis}", values[:, i]) for i, axis in enumerate("xyz")]
    return named


def _files(case: Path, field: str, after: float | None) -> list[Path]:
    name = PurePosixPath(field)
    if name.is_absolute() or ".." in name.parts:
        raise _wrong(f"field {field!r} leads outside the case; write its name, as `p` or `fluid/p`")
    times = _last_times(case, after)
    if not times:
        raise _wrong(
            f"field {field!r}: nothing was written after the start of the run; see writeControl and"
            " writeInterval in system/controlDict"
        )
    found = []
    for time in times:
        near = [time / field, time / f"{field}.gz"]
        found += [path for path in near if path.is_file()][:1]
    if not found:
        there = {
            path.relative_to(time).as_posix().removesuffix(".gz")
            for time in times
            for path in time.rglob("*")
            if path.is_file() and "uniform" not in path.parts
        }
        raise _wrong(f"there is no field {field!r} at time {times[0].name}{nearest(field, there)}")
    return found


def _last_times(case: Path, after: float | None) -> list[Path]:
    """The folder of the last time; those of all processors where it was not put together."""
    whole = _last_time(case, after)
    parts = [_last_time(root, after) for root in sorted(case.glob("processor[0-9]*"), key=_rank)]
    pieces = [part for part in parts if part is not None]
    last = max((float(part.name) for part in pieces), default=None)
    if whole is not None and (last is None or float(whole.name) >= last):
        return [whole]
    return [piece for piece in pieces if float(piece.name) == last]


def _last_time(root: Path, after: float | None) -> Path | None:
    found = [name for name, time in cases.times(root).items() if after is None or time > after]
    return root / found[-1] if found else None


def _rank(root: Path) -> int:
    digits = root.name.removeprefix("processor")
    return int(digits) if digits.isdigit() else -1


def _wrong(text: str) -> JobError:
    return JobError(Reason.METRICS, text)
