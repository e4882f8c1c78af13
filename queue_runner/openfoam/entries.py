"""The entries of a dictionary file as OpenFOAM reads them: with what `#include` and `$macro` bring in.

The rules are those of "Basic file format" in OpenFOAM's user guide: a later entry replaces an earlier one,
dictionaries of one name are merged, a macro is looked for in its own dictionary and then further up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from queue_runner.paths import leads_into
from queue_runner.plugins import nearest

Keys = tuple[str, ...]

_MAX_DEPTH = 20
_INCLUDES = ("#include", "#includeIfPresent", "#sinclude", "#cinclude")
#: Directives that bring in nothing.
_SILENT = ("#inputMode", "#remove", "#message")
_ABSENT = object()

#: By their content: a worker asks several times for each job, and the jobs of a study have most files in
#: common. Some hundred lines take foamlib a millisecond, which it takes from the jobs that run meanwhile.
_known: dict[bytes, _Parsed] = {}
_MOST_FILES, _MOST_BYTES = 64, 64 * 1024


@dataclass(frozen=True, slots=True)
class Entries:
    """values: of each entry that is no dictionary, by its keys. dictionaries: the others.

    open: dictionaries that may hold more than could be read here, such as what `#includeEtc` brings.
    """

    values: Mapping[Keys, Any]
    dictionaries: frozenset[Keys]
    open: frozenset[Keys]

    def find(self, entry: str) -> Keys | None:
        """The keys of a path such as `solvers/p/tolerance`; quotes around patterns may be left out."""
        bare = _bare(entry)
        return next((keys for keys in self._all() if _bare("/".join(keys)) == bare), None)

    def missing(self, entry: str) -> str:
        """Why there is no such entry and what is near it; nothing where there is, or may be, one."""
        parts = tuple(entry.split("/"))
        if self.find(entry) is not None or any(
            parts[:depth] in self.open for depth in range(len(parts))
        ):
            return ""
        for depth in range(1, len(parts)):
            found = self.find("/".join(parts[:depth]))
            if found is not None and found not in self.dictionaries:
                return (
                    f"no entry {entry!r}: {'/'.join(parts[:depth])!r} is not a dictionary;"
                    " set it as a whole, as text in OpenFOAM's syntax"
                )
        if covering := self._covering(parts):
            return f"no entry {entry!r}, but a pattern that covers it: write {covering!r}"
        return f"no entry {entry!r}{nearest(entry, ('/'.join(keys) for keys in self._all()))}"

    def _all(self) -> Iterable[Keys]:
        return (*self.values, *self.dictionaries)

    def _covering(self, parts: Keys) -> str | None:
        for keys in self._all():
            if len(keys) == len(parts) and all(map(_covers, keys, parts)):
                return "/".join(keys)
        return None


def read(case: Path, file: Path, parsed: Mapping[Any, Any] | None = None) -> Entries:
    """The entries of `file`, a file of `case`; `parsed` is its content where foamlib has read it already.

    Raises `ValueError` in words where foamlib cannot read it.
    """
    if parsed is not None:
        return _entries(case, file, parsed)
    content = _parse(file)
    if content.entries is not None:
        return content.entries
    found = _entries(case, file, content.items)
    if not content.includes:
        content.entries = found
    return found


def _entries(case: Path, file: Path, items: Mapping[Any, Any]) -> Entries:
    top = _Dictionary()
    _merge(items, top, case.resolve(), file, 0)
    values: dict[Keys, Any] = {}
    dictionaries: set[Keys] = set()
    unknown: set[Keys] = set()
    _flatten(top, (), values, dictionaries, unknown)
    return Entries(values, frozenset(dictionaries), frozenset(unknown))


@dataclass(slots=True)
class _Parsed:
    """What is in a file; not to be changed, for the next file with this content is the same.

    includes: whether its entries may depend on other files; entries: where they do not, once asked for.
    """

    items: Mapping[Any, Any]
    includes: bool
    entries: Entries | None = None


@dataclass(slots=True)
class _Dictionary:
    above: _Dictionary | None = None
    entries: dict[str, Any] = field(default_factory=dict)
    open: bool = False
    #: entries whose value is a macro that is defined elsewhere: dictionaries, or not
    opaque: set[str] = field(default_factory=set)


def _parse(file: Path) -> _Parsed:
    # a second to import, and only OpenFOAM studies need it
    from foamlib import FoamFile

    try:
        if file.stat().st_size > _MOST_BYTES:
            return _Parsed(FoamFile(file).as_dict(), includes=True)
        content = file.read_bytes()
        if (known := _known.get(content)) is None:
            known = _Parsed(FoamFile(file).as_dict(), includes=b"nclude" in content)
            # it has read the file itself
            if file.read_bytes() == content:
                if len(_known) >= _MOST_FILES:
                    _known.clear()
                _known[content] = known
        return known
    except KeyError as error:  # of two dictionaries of one name it keeps the last
        name = error.args[0] if error.args else "an entry"
        raise ValueError(
            f"foamlib cannot read {file.name!r}: {name!r} is in it more than once"
        ) from error
    except Exception as error:  # its parser raises whatever it meets; the file is what is wrong
        raise ValueError(f"foamlib cannot read {file.name!r}: {error}") from error


def _merge(items: Mapping[Any, Any], into: _Dictionary, case: Path, file: Path, depth: int) -> None:
    for key, value in items.items():
        if key is None:
            # data without a keyword, or the rest of a directive that foamlib does not know
            into.open |= isinstance(value, str) and value.startswith("#")
        elif key.startswith("#"):
            _direct(key, value, into, case, file, depth)
        elif key.startswith("$") and value is None:
            _substitute(key, into)
        elif isinstance(value, Mapping):
            below = into.entries.get(key)
            if not isinstance(below, _Dictionary):
                below = into.entries[key] = _Dictionary(into)
            _merge(value, below, case, file, depth)
        else:
            _set(key, value, into)


def _direct(
    directive: str, value: Any, into: _Dictionary, case: Path, file: Path, depth: int
) -> None:
    if directive in _SILENT:
        return
    included = _included(value, case, file) if directive in _INCLUDES else None
    if included is None or depth == _MAX_DEPTH:
        into.open = True
    elif included.is_file():
        try:
            _merge(_parse(included).items, into, case, included, depth + 1)
        except ValueError:
            into.open = True
    elif directive == "#include":
        into.open = True


def _included(value: Any, case: Path, file: Path) -> Path | None:
    """The file of the case that an include names; None where it is not in the case."""
    text = str(value).strip('"')
    for name, folder in (
        ("$FOAM_CASE", case),
        ("${FOAM_CASE}", case),
        ("<case>", case),
        ("<constant>", case / "constant"),
        ("<system>", case / "system"),
    ):
        if text.startswith(name):
            text = f"{folder}{text.removeprefix(name)}"
            break
    path = Path(os.path.normpath(file.parent / text))
    if "$" in text or "<" in text or not leads_into(path, case):
        return None
    return path


def _substitute(macro: str, into: _Dictionary) -> None:
    found = _look_up(macro, into)
    if isinstance(found, _Dictionary):
        _copy(found, into)
    else:
        into.open = True


def _set(key: str, value: Any, into: _Dictionary) -> None:
    if isinstance(value, str) and value.startswith("$"):
        found = _look_up(value, into)
        if isinstance(found, _Dictionary):
            into.entries[key] = below = _Dictionary(into)
            _copy(found, below)
            return
        if found is _ABSENT:
            into.opaque.add(key)
        else:
            value = found
    into.entries[key] = value


def _copy(source: _Dictionary, into: _Dictionary) -> None:
    into.open |= source.open
    into.opaque |= source.opaque
    for key, value in list(source.entries.items()):
        if isinstance(value, _Dictionary):
            below = into.entries.get(key)
            if not isinstance(below, _Dictionary):
                below = into.entries[key] = _Dictionary(into)
            _copy(value, below)
        else:
            into.entries[key] = value


def _look_up(macro: str, scope: _Dictionary) -> Any:
    name = macro.removeprefix("$")
    if name.startswith("{") and name.endswith("}"):
        name = name[1:-1]
    if name.startswith((":", "/")):
        return _descend(_top(scope), name[1:])
    if name.startswith("."):
        here: _Dictionary | None = scope
        name = name[1:]
        while name.startswith(".") and here is not None:
            name, here = name[1:], here.above
        return _ABSENT if here is None else _descend(here, name.lstrip("/"))
    while True:
        found = _descend(scope, name)
        if found is not _ABSENT or scope.above is None:
            return found
        scope = scope.above


def _top(scope: _Dictionary) -> _Dictionary:
    while scope.above is not None:
        scope = scope.above
    return scope


def _descend(scope: _Dictionary, name: str) -> Any:
    if name in scope.entries:
        return scope.entries[name]
    found: Any = scope
    for part in re.split(r"[./]", name):
        if not isinstance(found, _Dictionary) or part not in found.entries:
            return _ABSENT
        found = found.entries[part]
    return found


def _flatten(
    node: _Dictionary,
    above: Keys,
    values: dict[Keys, Any],
    dictionaries: set[Keys],
    unknown: set[Keys],
) -> None:
    if node.open:
        unknown.add(above)
    for key, value in node.entries.items():
        keys = (*above, key)
        if isinstance(value, _Dictionary):
            dictionaries.add(keys)
            _flatten(value, keys, values, dictionaries, unknown)
            continue
        values[keys] = value
        if key in node.opaque:
            unknown.add(keys)


def _bare(entry: str) -> str:
    return entry.replace('"', "")


def _covers(key: str, name: str) -> bool:
    if _bare(key) == _bare(name):
        return True
    if not key.startswith('"'):
        return False
    try:
        return re.fullmatch(key.strip('"'), name) is not None
    except re.error:
        return False
