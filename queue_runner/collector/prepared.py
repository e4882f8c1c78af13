"""Statements that every batch needs, put together once for each kind of database.

SQLAlchemy finds a statement's text again at each execution, and turns its values and rows into those of the
database; that takes several times what SQLite takes for a statement. The values of the statements here are
what drivers know: text, numbers, bytes, truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, CursorResult
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler


@dataclass(frozen=True, slots=True)
class _Made:
    """names: of the values in their order, None where the driver goes by names; own: constants."""

    text: str
    names: Sequence[str] | None
    own: Mapping[str, object]


class Prepared:
    """columns: of an INSERT, those that values are given for."""

    def __init__(self, statement: ClauseElement, columns: Sequence[str] | None = None) -> None:
        self._statement, self._columns = statement, columns
        self._made: dict[str, _Made] = {}

    def run(
        self, connection: Connection, *values: Mapping[str, object]
    ) -> CursorResult[*tuple[Any, ...]]:
        """With the values of its parameters by their names; several INSERT several rows."""
        made = self._made.get(connection.dialect.name) or self._make(connection)
        rows: list[Any] = []
        for each in values:
            given = {**made.own, **each}
            rows.append(given if made.names is None else tuple(given[name] for name in made.names))
        return connection.exec_driver_sql(made.text, rows[0] if len(rows) == 1 else rows)

    def _make(self, connection: Connection) -> _Made:
        compiled = self._statement.compile(dialect=connection.dialect, column_keys=self._columns)
        assert isinstance(compiled, SQLCompiler)
        made = _Made(compiled.string, compiled.positiontup, compiled.params)
        self._made[connection.dialect.name] = made
        return made
