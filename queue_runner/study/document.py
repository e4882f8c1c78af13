"""A YAML file as plain values, with the line of each of them.

YAML 1.2's core scalars (so `on` and `no` are text and `1e-3` is a number), no tags, no duplicate keys,
aliases counted: nothing that a file holds can run code or eat the memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

import yaml

from queue_runner.errors import StudyError
from queue_runner.study.problems import Path
from queue_runner.study.texts import MIB, read_text

_MAX_BYTES = 16 * MIB
_TOO_LARGE = "put many points into a CSV file"
_MAX_VALUES = 3_000_000
_MAX_DEPTH = 50

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class Document:
    """`value`: what the file holds; `locate(path)`: `study.yaml:12: ` for a place in it."""

    def __init__(self, file: FilePath) -> None:
        """Raises `StudyError` when the file cannot be read or is not YAML."""
        self.name = file.name
        self._lines: dict[Path, int] = {}
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = 0
        self._events: Iterator[Any] = yaml.parse(
            read_text(file, _MAX_BYTES, _TOO_LARGE), Loader=_LOADER
        )
        try:
            self.value = self._document()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f":{mark.line + 1}" if mark else ""
            raise StudyError(f"{self.name}{line}: not YAML: {error.problem}") from error
        except yaml.YAMLError as error:
            raise StudyError(f"{self.name}: not YAML: {error}") from error

    def locate(self, path: Path) -> str:
        """File and line of the place, or of the nearest one above it that has a line."""
        for length in range(len(path), -1, -1):
            if path[:length] in self._lines:
                return f"{self.name}:{self._lines[path[:length]]}: "
        return f"{self.name}: "

    def _fail(self, line: int, text: str) -> StudyError:
        return StudyError(f"{self.name}:{line}: {text}")

    def _document(self) -> Any:
        value = None
        for event in self._events:
            if value is not None and isinstance(event, yaml.DocumentStartEvent):
                raise self._fail(_line(event), "a study file holds one document only")
            if isinstance(event, yaml.NodeEvent):
                value = self._node(event, ())
        return value

    def _node(self, event: Any, path: Path) -> Any:
        line = _line(event)
        self._lines.setdefault(path, line)
        self._count(1, line)
        if len(path) > _MAX_DEPTH:
            raise self._fail(line, f"nested more than {_MAX_DEPTH} levels deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, line)
        if event.tag not in (None, "!"):
            raise self._fail(line, f"tags such as {event.tag!r:.60} are not used in study files")
        before = self._values
        if isinstance(event, yaml.ScalarEvent):
            plain = event.implicit[0] and event.tag is None
            value = self._scalar(event.value, line) if plain else event.value
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(path)
        else:
            value = self._mapping(path)
        if event.anchor:
            self._anchors[event.anchor] = (value, self._values - before + 1)
        return value

    def _count(self, values: int, line: int) -> None:
        self._values += values
        if self._values > _MAX_VALUES:
            raise self._fail(
                line, f"more than {_MAX_VALUES} values, counting aliases; use `points`"
            )

    def _alias(self, event: Any, line: int) -> Any:
        if event.anchor not in self._anchors:
            raise self._fail(line, f"no anchor &{event.anchor} before this alias")
        value, size = self._anchors[event.anchor]
        self._count(size, line)
        return value

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = _line(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise self._fail(line, "a key has to be plain text")
            key = event.value
            if key in items:
                raise self._fail(line, f"{key!r:.80} is given twice")
            items[key] = self._node(next(self._events), (*path, key))
            # the line of the key, so that a message about a long value points at its name
            self._lines[(*path, key)] = line
        return items

    def _scalar(self, text: str, line: int) -> Any:
        if text in ("", "~", "null", "Null", "NULL"):
            return None
        if text in ("true", "True", "TRUE"):
            return True
        if text in ("false", "False", "FALSE"):
            return False
        if _INT.fullmatch(text):
            if len(text) > 100:
                raise self._fail(line, "a number of more than 100 digits")
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
        if _SPECIAL.fullmatch(text):
            return float(text.replace(".", "").lower())
        return text


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
