"""Minimum, maximum and mean of fields at the last time, also of decomposed cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from queue_runner.errors import JobError
from queue_runner.model import Reason, Scalar


def measure_fields(case: Path, asked: Mapping[str, Sequence[str]]) -> dict[str, Scalar]:
    """`p_min`, `U_mag_max`, `U_x_mean`, ...; means are over cells. Raises `JobError`."""
    metrics: dict[str, Scalar] = {}
    for field, statistics in asked.items():
        for name, values in _components(field, _cells(case, field)):
            for statistic in statistics:
                metrics[f"{name}_{statistic}"] = float(getattr(values, statistic)())
    return metrics


def _cells(case: Path, field: str) -> Any:
    import numpy as np

    parts = [np.atleast_1d(_internal(path, field)) for path in _files(case, field)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _internal(path: Path, field: str) -> Any:
    import numpy as np
    from foamlib import FoamFieldFile

    try:
        values = np.asarray(FoamFieldFile(path).internal_field, dtype=float)
    except Exception as error:
        raise JobError(Reason.METRICS, f"field {field}: cannot read {path}: {error}") from error
    # a uniform vector is one cell's value, not three cells
    return (
        values.reshape(1, -1)
        if values.ndim == 1 and values.size in (3, 6, 9) and _uniform(path)
        else values
    )


def _uniform(path: Path) -> bool:
    from foamlib import FoamFile

    return "Scalar" not in str(FoamFile(path)["FoamFile", "class"])


def _components(field: str, values: Any) -> list[tuple[str, Any]]:
    import numpy as np

    if values.ndim == 1:
        return [(field, values)]
    named = [(f"{field}_mag", np.linalg.norm(values, axis=1))]
    if values.shape[1] == 3:
        named += [(f"{field}_{axis}", values[:, i]) for i, axis in enumerate("xyz")]
    return named


def _files(case: Path, field: str) -> list[Path]:
    roots = [case] if _last_time(case) else sorted(case.glob("processor[0-9]*"))
    found = []
    for root in roots:
        time = _last_time(root)
        if time is not None:
            near = [time / field, time / f"{field}.gz"]
            found += [path for path in near if path.is_file()][:1]
    if not found:
        raise JobError(Reason.METRICS, f"there is no field {field!r} at the last time of the case")
    return found


def _last_time(root: Path) -> Path | None:
    times = [each for each in root.iterdir() if each.is_dir() and _number(each.name) > 0]
    return max(times, key=lambda each: _number(each.name), default=None)


def _number(name: str) -> float:
    try:
        return float(name)
    except ValueError:
        return -1.0
