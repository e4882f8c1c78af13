"""How far a study is, asked of a local SQLite file without a thread to wait for it.

Who is asked for a study most often has nothing to tell: it is not there yet, or nothing has come. Passing
such a question to a thread and back takes many times what SQLite takes to answer it. It never waits here:
where SQLite would have to, nothing is said, and the question is passed on.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import dataclass

_STUDY = """
    SELECT arrivals, succeeded + failed + cancelled >= total FROM study
    WHERE known AND (id = :study OR name = :study)
    ORDER BY id = :study DESC, submitted_at DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """arrivals: the number of the last result that came; done: whether every job has one."""

    arrivals: int
    done: bool


class Glance:
    """For one thread at a time."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None

    def study(self, study: str) -> Seen | None:
        """By id or (the latest of that) name. None where it cannot be said at once.

        Raises `LookupError` for one that is not there.
        """
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(
                    self._file, timeout=0.0, isolation_level=None, check_same_thread=False
                )
            row = self._connection.execute(_STUDY, {"study": study}).fetchone()
        except (sqlite3.Error, UnicodeError):
            return None
        if row is None:
            raise LookupError(study)
        return Seen(row[0], bool(row[1]))

    def close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
