"""Assignments to the entries of a case's dictionaries, through foamlib."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from queue_runner.errors import JobError
from queue_runner.model import Reason
from queue_runner.plugins import nearest


def assign(case: Path, assignments: Sequence[Sequence[Any]], *, must_exist: bool) -> None:
    """Write each `[file, entry, value]`. Raises `JobError` with reason `prepare`."""
    by_file: dict[str, list[tuple[str, Any]]] = {}
    for file, entry, value in assignments:
        by_file.setdefault(file, []).append((entry, value))
    for file, entries in by_file.items():
        _assign_in(case, file, entries, must_exist)


def _assign_in(case: Path, file: str, entries: list[tuple[str, Any]], must_exist: bool) -> None:
    from foamlib import FoamFieldFile

    path = _inside(case, file, must_exist)
    foam: Any = FoamFieldFile(path)
    entry = ""
    try:
        with foam:
            known = set(_keys(foam.as_dict())) if path.exists() else set()
            for entry, value in entries:
                keys = _resolve(entry, known)
                if keys is None and must_exist and not _may_be_included(entry, known):
                    names = ["/".join(each) for each in known]
                    raise _wrong(f"{file} has no entry {entry!r}{nearest(entry, names)}")
                keys = keys or tuple(entry.split("/"))
                foam[keys] = _value(foam, keys, value, keys in known)
    except JobError:
        raise
    except Exception as error:
        raise _wrong(f"{file}: cannot set {entry!r}: {type(error).__name__}: {error}") from error


def _inside(case: Path, file: str, must_exist: bool) -> Path:
    path = (case / file).resolve()
    if not path.is_relative_to(case.resolve()):
        raise _wrong(f"{file!r} leads outside the case folder")
    zipped = path.with_name(path.name + ".gz")
    if not path.is_file() and zipped.is_file():
        return zipped
    if not path.is_file() and must_exist:
        files = [each.relative_to(case).as_posix() for each in case.rglob("*") if each.is_file()]
        raise _wrong(f"there is no file {file!r} in the case{nearest(file, files)}")
    return path


def _may_be_included(entry: str, known: set[tuple[str, ...]]) -> bool:
    """Whether an #include or a $macro may bring the entry in; what is written after it then wins."""
    parts = tuple(entry.split("/"))
    return any(
        keys[-1].startswith(("#", "$")) and keys[:-1] == parts[: len(keys) - 1] for keys in known
    )


def _resolve(entry: str, known: set[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The keys that a path names; quotes around patterns may be left out."""
    bare = entry.replace('"', "")
    return next((keys for keys in known if "/".join(keys).replace('"', "") == bare), None)


def _keys(entries: Mapping[Any, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in entries.items():
        if key is None:
            continue
        yield (*above, str(key))
        if isinstance(value, Mapping):
            yield from _keys(value, (*above, str(key)))


def _value(foam: Any, keys: tuple[str, ...], value: Any, exists: bool) -> Any:
    from foamlib import Dimensioned, FoamFile

    if isinstance(value, str):
        # text is OpenFOAM's own syntax: foamlib wants it parsed
        parsed: Any = FoamFile.loads(f"entry {value};")
        value = parsed["entry"]
    old = foam[keys] if exists else None
    if isinstance(old, Dimensioned) and not isinstance(value, Dimensioned):
        return Dimensioned(value, old.dimensions, old.name)
    return value


def _wrong(text: str) -> JobError:
    return JobError(Reason.PREPARE, text)
