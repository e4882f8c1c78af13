"""The server's messages on disk: SQLite in WAL mode, changed in one transaction per group of requests.

With `sync="normal"` a commit survives the death of the process (kill -9), not always that of the
machine; with `sync="full"` it survives a power cut, at the price of an fsync per group.
https://www.sqlite.org/pragma.html#pragma_synchronous
"""

from __future__ import annotations

import fcntl
import itertools
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from queue_runner.brokers.zeromq.index import spans
from queue_runner.errors import BrokerRefused

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    size INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    due REAL,
    body BLOB NOT NULL
);
CREATE TABLE lease (
    message INTEGER PRIMARY KEY,
    token INTEGER NOT NULL,
    lease_s REAL NOT NULL
);
CREATE TABLE dead (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    size INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX dead_queue ON dead (queue, id);
"""
#: Messages that are added by one statement, for each of which the interpreter's lock is given away and taken.
#: Bound values were limited to 999 for a long time.
_SOME = 50
_ADD = "INSERT INTO message VALUES "
_ADD_ONE = f"{_ADD} (?, ?, ?, ?, ?, ?, ?)"
_ADD_SOME = _ADD + ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * _SOME)
#: Pages of 4 KiB that the log may come to: 32 MiB, read again in a tenth of a second after a crash.
_LOG_PAGES = 8000
_CACHE_KIB = 16 * 1024


class JournalError(Exception):
    """The journal could not be changed (disk full, I/O error); nothing of the group was kept."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as the index needs it: all but its body, of which the length. due: unix time, or None."""

    id: int
    queue: str
    priority: int
    size: int
    due: float | None
    token: int | None
    lease_s: float | None
    length: int


@dataclass(frozen=True, slots=True)
class DeadRow:
    id: int
    queue: str
    priority: int
    size: int
    attempt: int
    reason: str
    at: float
    body: bytes


NewMessage = tuple[int, str, int, int, int, float | None, bytes]
#: number, attempt, body
LeasedRow = tuple[int, int, bytes]


class Journal:
    """Used by one thread. Raises `JournalError` where SQLite fails, `BrokerRefused` when opening."""

    def __init__(self, path: Path, sync: str = "normal") -> None:
        if sync not in ("normal", "full"):
            raise ValueError(f"sync is 'normal' or 'full', not {sync!r}")
        self.path = path
        self._lock = _hold_lock(path)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA synchronous = {sync.upper()}")
            # what was removed need not be written once more, as zeros: distributions have SQLite do that
            self._db.execute("PRAGMA secure_delete = OFF")
            self._db.execute("PRAGMA journal_size_limit = 67108864")
            # pages are written again and again before they are moved from the log, which waits for the disk
            self._db.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
            self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._make_schema()
        except sqlite3.Error as error:
            os.close(self._lock)
            raise BrokerRefused(
                f"{path}: not usable as a journal: {error}. Name another file, or move it away."
            ) from error

    def _make_schema(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
            )
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(
                f"it has schema version {version}, this program knows {SCHEMA_VERSION}"
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and on disk when it ends."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise JournalError(f"{self.path}: {error}") from error
            raise

    def messages(self) -> Iterator[Stored]:
        """Everything that is not dead, the oldest first."""
        rows = self._db.execute(
            "SELECT id, queue, priority, size, due, token, lease_s, length(body) FROM message"
            " LEFT JOIN lease ON lease.message = message.id ORDER BY id"
        )
        for row in rows:
            yield Stored(*row)

    def last_id(self) -> int:
        (last,) = self._db.execute(
            "SELECT max((SELECT coalesce(max(id), 0) FROM message),"
            " (SELECT coalesce(max(id), 0) FROM dead))"
        ).fetchone()
        return int(last)

    def dead_counts(self) -> dict[str, int]:
        return dict(self._db.execute("SELECT queue, count(*) FROM dead GROUP BY queue"))

    # -- messages -----------------------------------------------------------------------------

    def add(self, messages: Sequence[NewMessage]) -> None:
        whole = len(messages) - len(messages) % _SOME
        for first in range(0, whole, _SOME):
            some = messages[first : first + _SOME]
            self._db.execute(_ADD_SOME, tuple(itertools.chain.from_iterable(some)))
        self._db.executemany(_ADD_ONE, messages[whole:])

    def lease(self, numbers: range, token: int, lease_s: float) -> list[LeasedRow]:
        found: list[LeasedRow] = self._db.execute(
            "SELECT id, attempt, body FROM message WHERE id BETWEEN ? AND ? ORDER BY id",
            (numbers[0], numbers[-1]),
        ).fetchall()
        self._db.execute(
            "INSERT INTO lease SELECT id, ?, ? FROM message WHERE id BETWEEN ? AND ?",
            (token, lease_s, numbers[0], numbers[-1]),
        )
        return found

    def lengths(self, numbers: range) -> list[int]:
        """How many bytes each body has."""
        rows = self._db.execute(
            "SELECT length(body) FROM message WHERE id BETWEEN ? AND ? ORDER BY id",
            (numbers[0], numbers[-1]),
        )
        return [length for (length,) in rows]

    def remove_leases(self, ids: Iterable[int]) -> None:
        self._db.executemany("DELETE FROM lease WHERE message BETWEEN ? AND ?", _bounds(ids))

    def remove(self, ids: Iterable[int]) -> None:
        self._db.executemany("DELETE FROM message WHERE id BETWEEN ? AND ?", _bounds(ids))

    def count_attempts(self, ids: Iterable[int]) -> None:
        self._db.executemany(
            "UPDATE message SET attempt = attempt + 1 WHERE id BETWEEN ? AND ?", _bounds(ids)
        )

    def set_due(self, due: Iterable[tuple[float | None, int]]) -> None:
        self._db.executemany("UPDATE message SET due = ? WHERE id = ?", due)

    # -- dead letters -------------------------------------------------------------------------

    def bury(self, reasons: Iterable[tuple[str, int]]) -> None:
        """Move messages to the dead letters, each with its reason."""
        now = time.time()
        for reason, number in reasons:
            self._db.execute(
                "INSERT INTO dead SELECT id, queue, priority, size, attempt, ?, ?, body"
                " FROM message WHERE id = ?",
                (reason, now, number),
            )
            self._db.execute("DELETE FROM message WHERE id = ?", (number,))

    def dead(self, queue: str, limit: int, after: int, most_bytes: int) -> list[DeadRow]:
        """The first with a higher id than `after`; no more once their bodies reach `most_bytes`."""
        rows = self._db.execute(
            "SELECT id, queue, priority, size, attempt, reason, at, body FROM dead"
            " WHERE queue = ? AND id > ? ORDER BY id LIMIT ?",
            (queue, after, limit),
        )
        found: list[DeadRow] = []
        for row in rows:
            found.append(DeadRow(*row))
            most_bytes -= len(found[-1].body)
            if most_bytes <= 0:
                break
        return found

    def dead_ids(self, queue: str, ids: Sequence[int] | None) -> list[int]:
        every = [
            row[0] for row in self._db.execute("SELECT id FROM dead WHERE queue = ?", (queue,))
        ]
        return every if ids is None else [number for number in every if number in set(ids)]

    def raise_dead(self, number: int) -> Stored:
        """Put a dead letter back among the messages, its attempts counted from 1 again."""
        self._db.execute(
            "INSERT INTO message SELECT id, queue, priority, size, 1, NULL, body FROM dead"
            " WHERE id = ?",
            (number,),
        )
        (queue, priority, size, length) = self._db.execute(
            "SELECT queue, priority, size, length(body) FROM dead WHERE id = ?", (number,)
        ).fetchone()
        self._db.execute("DELETE FROM dead WHERE id = ?", (number,))
        return Stored(number, queue, priority, size, None, None, None, length)

    def close(self) -> None:
        self._db.close()
        os.close(self._lock)


def _bounds(ids: Iterable[int]) -> list[tuple[int, int]]:
    """The first and the last of all that follow one upon the other, as what is published together does."""
    return [(numbers[0], numbers[-1]) for numbers in spans(sorted(ids))]


def _hold_lock(path: Path) -> int:
    """One server per journal, held by a lock that dies with the process."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BrokerRefused(f"{path}: the journal cannot be made: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise BrokerRefused(
            f"{path}: another broker server is using this journal. Stop it first, or name another."
        ) from error
    return lock
