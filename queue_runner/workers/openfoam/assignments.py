"""Assignments to the entries of a case's dictionaries, through foamlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from queue_runner.errors import JobError
from queue_runner.model import Reason
from queue_runner.openfoam import entries
from queue_runner.openfoam.entries import Keys
from queue_runner.plugins import nearest

_CLASS: Keys = ("FoamFile", "class")
#: Components of a field's value, by the class of its file.
_COMPONENTS = {"Scalar": 1, "Vector": 3, "SphericalTensor": 1, "SymmTensor": 6, "Tensor": 9}


def assign(case: Path, assignments: Sequence[Sequence[Any]], *, must_exist: bool) -> None:
    """Write each `[file, entry, value]`. Raises `JobError` with reason `prepare`."""
    by_file: dict[str, list[tuple[str, Any]]] = {}
    for file, entry, value in assignments:
        by_file.setdefault(file, []).append((entry, value))
    for file, wanted in by_file.items():
        _assign_in(case, file, wanted, must_exist)


def _assign_in(case: Path, file: str, wanted: list[tuple[str, Any]], must_exist: bool) -> None:
    from foamlib import FoamFieldFile

    path = _inside(case, file, must_exist)
    foam: Any = FoamFieldFile(path)
    entry = ""
    try:
        with foam:
            parsed = foam.as_dict(include_header=True)
            known = entries.read(case, path, parsed)
            for entry, value in wanted:
                if must_exist and (why := known.missing(entry)):
                    raise _wrong(f"{file} has {why}")
                keys = known.find(entry) or _new(foam, known, entry)
                _write(foam, known, keys, value, entry)
    except JobError:
        raise
    except Exception as error:
        raise _wrong(f"{file}: cannot set {entry!r}: {type(error).__name__}: {error}") from error


def _write(foam: Any, known: entries.Entries, keys: Keys, value: Any, entry: str) -> None:
    if not isinstance(value, Mapping):
        foam[keys] = _value(value, known.values.get(keys), _components(known, keys), entry)
        return
    # a map takes the place of all that the dictionary had, which then says nothing of shapes
    foam[keys] = {}
    head: dict[Keys, Any] = {_CLASS: known.values.get(_CLASS)}
    bare = entries.Entries(head, frozenset(), frozenset())
    for name, each in value.items():
        _write(foam, bare, (*keys, str(name)), each, f"{entry}/{name}")


def _new(foam: Any, known: entries.Entries, entry: str) -> Keys:
    """The keys of an entry that is added; dictionaries around it are made where there are none."""
    *around, last = entry.split("/")
    keys: Keys = ()
    for name in around:
        keys = known.find("/".join((*keys, name))) or (*keys, name)
        if keys in known.values:
            raise _wrong(f"cannot set {entry!r}: {'/'.join(keys)!r} is no dictionary")
        if keys not in foam:
            foam[keys] = {}
    return (*keys, last)


def _inside(case: Path, file: str, must_exist: bool) -> Path:
    path = (case / file).resolve()
    if not path.is_relative_to(case.resolve()):
        raise _wrong(f"{file!r} leads outside the case folder")
    zipped = path.with_name(path.name + ".gz")
    if not path.is_file() and zipped.is_file():
        return zipped
    if not must_exist:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    elif not path.is_file():
        files = [each.relative_to(case).as_posix() for each in case.rglob("*") if each.is_file()]
        raise _wrong(f"there is no file {file!r} in the case{nearest(file, files)}")
    return path


def _components(known: entries.Entries, keys: Keys) -> int | None:
    """How many numbers the value of a field's entry has, as the head of the file says; else None."""
    if keys != ("internalField",) and (keys[0] != "boundaryField" or keys[-1] != "value"):
        return None
    kind = str(known.values.get(_CLASS, ""))
    for prefix in ("vol", "surface", "point"):
        if kind.startswith(prefix) and kind.endswith("Field"):
            return _COMPONENTS.get(kind.removeprefix(prefix).removesuffix("Field"))
    return None


def _value(value: Any, old: Any, components: int | None, entry: str) -> Any:
    from foamlib import Dimensioned, FoamFile

    if isinstance(value, str):
        # text is OpenFOAM's own syntax: foamlib wants it parsed
        parsed: Any = FoamFile.loads(f"entry {value};")
        value = parsed["entry"]
    else:
        _check_shape(value, old, components, entry)
    if isinstance(old, Dimensioned) and not isinstance(value, Dimensioned):
        return Dimensioned(value, old.dimensions, old.name)
    return value


def _check_shape(value: Any, old: Any, components: int | None, entry: str) -> None:
    """OpenFOAM would take `uniform 2` for a vector, and call the first number of a list a scalar."""
    found = _length(value)
    wanted = components if components is not None else _length(getattr(old, "value", old))
    if found is None or wanted is None or found == wanted:
        return
    shape = "a number" if wanted == 1 else f"a list of {wanted} numbers"
    raise _wrong(
        f"{entry}: expected {shape}, as the case has it, found {value!r:.60};"
        " what is meant otherwise is written as text in OpenFOAM's syntax"
    )


def _length(value: Any) -> int | None:
    """1 for a number, n for n numbers in a list; None for all else, which may become anything."""
    if isinstance(value, bool | str | Mapping) or value is None:
        return None
    if isinstance(value, int | float):
        return 1
    try:
        items = list(value)
    except TypeError:
        return None
    plain = all(isinstance(each, int | float) and not isinstance(each, bool) for each in items)
    return len(items) if plain and len(items) > 1 else None


def _wrong(text: str) -> JobError:
    return JobError(Reason.PREPARE, text)
