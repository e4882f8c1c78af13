"""Rows into SQLite as a collector could write them at best: one table, large transactions, a log ahead."""

from __future__ import annotations

import itertools
import sqlite3

from measure.contender import Place
from measure.limits.base import BODY, Limit

_BURST = 10_000


class SqliteLimit(Limit):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._database = sqlite3.connect(place.folder / "rows.sqlite", isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute(
            "CREATE TABLE result (id INTEGER PRIMARY KEY, state TEXT, body BLOB)"
        )
        self._numbers = itertools.count()

    def versions(self) -> dict[str, str]:
        return {"sqlite": sqlite3.sqlite_version}

    def burst(self) -> int:
        rows = ((next(self._numbers), "succeeded", BODY) for _ in range(_BURST))
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO result VALUES (?, ?, ?)", rows)
        self._database.execute("COMMIT")
        return _BURST

    def stop(self) -> None:
        self._database.close()
