"""What every kind can measure: a metrics file that the job writes, and regular expressions on its logs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from queue_runner.errors import JobError
from queue_runner.model import Job, Reason, Scalar
from queue_runner.workers.leavings import open_file
from queue_runner.workers.patterns import Search, Unmatched, found_by

DEFAULT_FILE = "metrics.json"
MAX_FILE_BYTES = 4 * 1024 * 1024
_MAX_METRICS = 10_000
_MAX_NAME, _MAX_TEXT = 500, 10_000


def measure(job: Job, folder: Path, logs: Sequence[str]) -> dict[str, Scalar]:
    """Metrics of a finished work folder; `logs` are the files that its steps wrote, in order.

    Raises `JobError(Reason.METRICS, ...)`.
    """
    asked = job.measure
    metrics = _metrics_file(folder, asked.get("metrics"))
    if patterns := asked.get("log"):
        metrics.update(_from_logs(folder, logs, patterns))
    return metrics


def _metrics_file(folder: Path, name: str | None) -> dict[str, Scalar]:
    path = inside(folder, name or DEFAULT_FILE)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _wrong(f"{path.name} is larger than {MAX_FILE_BYTES // 1024**2} MiB")
        with open_file(path) as file:
            content = json.loads(file.read(MAX_FILE_BYTES).decode("utf-8"))
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
    for name, value in _walk(content, "", where):
        if len(flat) >= _MAX_METRICS:
            raise _wrong(f"{where}: more than {_MAX_METRICS} metrics; keep large results as files")
        if isinstance(value, str) and len(value) > _MAX_TEXT:
            raise _wrong(f"{where}: {name}: a text of more than {_MAX_TEXT} characters")
        if value is not None and not isinstance(value, int | float | str):
            raise _wrong(
                f"{where}: {name}: expected a number, text or true/false, found {value!r:.60}"
            )
        if isinstance(value, int) and value.bit_length() > 63:
            value = float(value)
        flat[name] = value
    return flat


def _walk(content: Mapping[str, Any], above: str, where: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{above}{key}"
        # each name holds all those above it: what is nested without end would fill the memory
        if len(name) > _MAX_NAME:
            raise _wrong(f"{where}: {name[:60]}...: a name of more than {_MAX_NAME} characters")
        if isinstance(value, Mapping):
            yield from _walk(value, f"{name}.", where)
        else:
            yield name, value


def _from_logs(
    folder: Path, logs: Sequence[str], asked: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, Scalar]]:
    written = [folder / log for log in logs]
    searches = [
        Search(
            each["pattern"],
            each.get("take", "last"),
            _files(folder, each["file"]) if each.get("file") else written,
        )
        for each in asked
    ]
    try:
        found = found_by(searches)
    except Unmatched as error:
        wrong = asked[error.place]
        raise _wrong(f"{wrong['name']}: {wrong['pattern']!r:.200} {error}") from error
    for each, search, value in zip(asked, searches, found, strict=True):
        if value is None and not each.get("optional"):
            names = ", ".join(path.name for path in search.files)
            names = names or f"(no file {each.get('file')!r})"
            raise _wrong(f"{each['name']}: nothing in {names} matches {each['pattern']!r:.200}")
        yield each["name"], scalar(value) if isinstance(value, str) else value


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.is_file() and not path.is_symlink())


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
