"""What every kind can measure: a metrics file that the job writes, and regular expressions on its logs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from queue_runner.errors import JobError
from queue_runner.model import Job, Reason, Scalar

DEFAULT_FILE = "metrics.json"
_MAX_FILE_BYTES = 4 * 1024 * 1024
_MAX_METRICS = 10_000
_MAX_LINE = 64 * 1024


def measure(job: Job, folder: Path, logs: Sequence[str]) -> dict[str, Scalar]:
    """Metrics of a finished work folder; `logs` are the files that its steps wrote, in order.

    Raises `JobError(Reason.METRICS, ...)`.
    """
    asked = job.measure
    metrics = _metrics_file(folder, asked.get("metrics"))
    for pattern in asked.get("log") or ():
        metrics[pattern["name"]] = _from_log(folder, logs, pattern)
    return metrics


def _metrics_file(folder: Path, name: str | None) -> dict[str, Scalar]:
    path = inside(folder, name or DEFAULT_FILE)
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise _wrong(f"{path.name} is larger than {_MAX_FILE_BYTES // 1024**2} MiB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if name is None:
            return {}
        raise _wrong(f"the job has not written {name!r}, which `measure: metrics` names") from None
    except (OSError, ValueError, RecursionError) as error:
        raise _wrong(f"{path.name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise _wrong(f"{path.name}: expected a map of names to numbers")
    return flat_metrics(content, path.name)


def flat_metrics(content: Mapping[str, Any], where: str) -> dict[str, Scalar]:
    """Nested maps joined with dots. Raises `JobError` for what is no number, text or truth value."""
    flat: dict[str, Scalar] = {}
    for name, value in _walk(content, ""):
        if value is not None and not isinstance(value, int | float | str):
            raise _wrong(
                f"{where}: {name}: expected a number, text or true/false, found {value!r:.60}"
            )
        if isinstance(value, int) and value.bit_length() > 63:
            value = float(value)
        flat[name] = value
    if len(flat) > _MAX_METRICS:
        raise _wrong(f"{where}: more than {_MAX_METRICS} metrics; keep large results as files")
    return flat


def _walk(content: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _walk(value, f"{name}.")
        else:
            yield name, value


def _from_log(folder: Path, logs: Sequence[str], asked: Mapping[str, Any]) -> Scalar:
    try:
        pattern = re.compile(asked["pattern"])
    except re.error as error:
        raise _wrong(
            f"{asked['name']}: {asked['pattern']!r} is no regular expression: {error}"
        ) from error
    files = _files(folder, asked["file"]) if asked.get("file") else [folder / log for log in logs]
    found = _take(_matches(pattern, files), asked.get("take", "last"), asked["name"])
    if found is None and not asked.get("optional"):
        names = ", ".join(path.name for path in files) or f"(no file {asked.get('file')!r})"
        raise _wrong(f"{asked['name']}: nothing in {names} matches {asked['pattern']!r}")
    return found


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.is_file() and not path.is_symlink())


def _matches(pattern: re.Pattern[str], files: Iterable[Path]) -> Iterator[str]:
    for path in files:
        if not path.is_file():
            continue
        with path.open(encoding="utf-8", errors="replace") as lines:
            while line := lines.readline(_MAX_LINE):
                found = pattern.search(line.rstrip("\n"))
                if found:
                    yield (found.group(1) or "") if pattern.groups else found.group()


def _take(found: Iterator[str], take: str, name: str) -> Scalar:
    if take == "count":
        return sum(1 for _ in found) or None
    if take == "first":
        first = next(found, None)
        return None if first is None else scalar(first)
    last, count, total, low, high = None, 0, 0.0, math.inf, -math.inf
    for last in found:
        count += 1
        if take != "last":
            value = _number(last, name)
            total, low, high = total + value, min(low, value), max(high, value)
    if last is None:
        return None
    values = {"sum": total, "mean": total / count if count else 0.0, "min": low, "max": high}
    return values[take] if take in values else scalar(last)


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _wrong(f"{name}: {text!r:.60} is no number") from None


def scalar(text: str) -> Scalar:
    """A number where the text is one."""
    for convert in (int, float):
        try:
            number = convert(text)
        except ValueError:
            continue
        return float(number) if abs(number) >= 2**63 else number
    return text


def inside(folder: Path, name: str) -> Path:
    """A path in the work folder. Raises `JobError` for one that leads out of it."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise _wrong(f"{name!r} leads outside the work folder")
    return path


def _wrong(text: str) -> JobError:
    return JobError(Reason.METRICS, text)
