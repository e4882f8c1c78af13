"""The server's messages on disk: SQLite in WAL mode, changed in one transaction per group of requests.

With `sync="normal"` a commit survives the death of the process (kill -9), not always that of the
machine; with `sync="full"` it survives a power cut, at the price of an fsync per group.
https://www.sqlite.org/pragma.html#pragma_synchronous
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
#: Bound values per statement; SQLite's own limit was 999 for a long time.
_SOME = 500
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

    def add(self, messages: Iterable[NewMessage]) -> None:
        self._db.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)", messages)

    def bodies(self, ids: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        """Attempt and body of each."""
        found: dict[int, tuple[int, bytes]] = {}
        for some, marks in _chunks(ids):
            query = f"SELECT id, attempt, body FROM message WHERE id IN ({marks})"
            for number, attempt, body in self._db.execute(query, some):
                found[number] = (attempt, body)
        return found

    def lengths(self, ids: Sequence[int]) -> dict[int, int]:
        """How many bytes each body has."""
        found: dict[int, int] = {}
        for some, marks in _chunks(ids):
            query = f"SELECT id, length(body) FROM message WHERE id IN ({marks})"
            found.update(self._db.execute(query, some))
        return found

    def add_leases(self, leases: Iterable[tuple[int, int, float]]) -> None:
        self._db.executemany("INSERT INTO lease VALUES (?, ?, ?)", leases)

    def remove_leases(self, ids: Sequence[int]) -> None:
        for some, marks in _chunks(ids):
            self._db.execute(f"DELETE FROM lease WHERE message IN ({marks})", some)

    def remove(self, ids: Sequence[int]) -> None:
        for some, marks in _chunks(ids):
            self._db.execute(f"DELETE FROM message WHERE id IN ({marks})", some)

    def count_attempts(self, ids: Sequence[int]) -> None:
        for some, marks in _chunks(ids):
            self._db.execute(
                f"UPDATE message SET attempt = attempt + 1 WHERE id IN ({marks})", some
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


def _chunks(ids: Sequence[int]) -> Iterator[tuple[Sequence[int], str]]:
    for first in range(0, len(ids), _SOME):
        some = ids[first : first + _SOME]
        yield some, ",".join("?" * len(some))


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
