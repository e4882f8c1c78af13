"""The last line of what function objects write under postProcessing."""

from __future__ import annotations

import re
from pathlib import Path

from queue_runner.errors import JobError
from queue_runner.model import Reason, Scalar


def last_line(case: Path, function: str) -> dict[str, Scalar]:
    """`function.column` for each number of the last line. Raises `JobError`."""
    files = sorted((case / "postProcessing" / function).glob("*/*.dat"))
    if not files:
        raise JobError(Reason.METRICS, f"function object {function!r} wrote no .dat file")
    metrics: dict[str, Scalar] = {}
    for path in files:
        metrics.update(_read(function, path))
    return metrics


def _read(function: str, path: Path) -> dict[str, Scalar]:
    lines = path.read_text(errors="replace").splitlines()
    header = [line for line in lines if line.startswith("#")]
    rows = [line for line in lines if line.strip() and not line.startswith("#")]
    if not rows:
        raise JobError(Reason.METRICS, f"{path.name} of function object {function!r} is empty")
    names = re.sub(r"[()]", " ", header[-1].lstrip("# ")).split() if header else []
    cells = re.sub(r"[()]", " ", rows[-1]).split()
    if len(names) != len(cells):
        names = ["time", *(str(number) for number in range(1, len(cells)))]
    pairs = list(zip(names, cells, strict=True))[1:]
    return {f"{function}.{name}": _scalar(text) for name, text in pairs}


def _scalar(text: str) -> Scalar:
    try:
        return float(text)
    except ValueError:
        return text
