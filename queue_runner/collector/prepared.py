"""Statements that every batch needs, put together once for each kind of database, and executed by its driver.

SQLAlchemy finds a statement's text again at each execution, turns its values and rows into those of the
database, and makes a context and a result for it; that takes several times what SQLite takes for a statement.
The values of the statements here are what drivers know: text, numbers, bytes, truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler


@dataclass(frozen=True, slots=True)
class _Made:
    """names: of the values in their order, None where the driver goes by names; own: constants."""

    text: str
    names: Sequence[str] | None
    own: Mapping[str, object]

    def given(self, values: Mapping[str, object]) -> Any:
        both = {**self.own, **values} if self.own else values
        return both if self.names is None else tuple([both[name] for name in self.names])


class Prepared:
    """columns: of an INSERT, those that values are given for."""

    def __init__(self, statement: ClauseElement, columns: Sequence[str] | None = None) -> None:
        self._statement, self._columns = statement, columns
        self._made: dict[str, _Made] = {}

    def rows(self, connection: Connection, values: Mapping[str, object]) -> list[Any]:
        """All rows, with the values of its parameters by their names. Raises as the driver does."""
        made = self._for(connection)
        found: list[Any] = driver(connection).execute(made.text, made.given(values)).fetchall()
        return found

    def row(self, connection: Connection, values: Mapping[str, object]) -> Any | None:
        """The only one of them, if there is one."""
        return next(iter(self.rows(connection, values)), None)

    def run(self, connection: Connection, *values: Mapping[str, object]) -> int:
        """Several values INSERT several rows. Returns how many rows were added or changed."""
        made = self._for(connection)
        cursor = driver(connection).cursor()
        if len(values) == 1:
            cursor.execute(made.text, made.given(values[0]))
        else:
            cursor.executemany(made.text, [made.given(each) for each in values])
        changed: int = cursor.rowcount
        return changed

    def _for(self, connection: Connection) -> _Made:
        return self._made.get(connection.dialect.name) or self._make(connection)

    def _make(self, connection: Connection) -> _Made:
        compiled = self._statement.compile(dialect=connection.dialect, column_keys=self._columns)
        assert isinstance(compiled, SQLCompiler)
        made = _Made(compiled.string, compiled.positiontup, compiled.params)
        self._made[connection.dialect.name] = made
        return made


def driver(connection: Connection) -> Any:
    """The connection of sqlite3 or psycopg, whose errors are not SQLAlchemy's."""
    return connection.connection.driver_connection
