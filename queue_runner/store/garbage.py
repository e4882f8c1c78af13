"""Garbage collection: remove what nobody refers to and nobody has put for a while.

Whoever puts an object makes it young, also when it was there already, before anything refers to it.
So a submission or a job that is under way is safe as long as it takes less than the age given.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain

from queue_runner.errors import NotFound, StoreDamaged
from queue_runner.store.base import Store
from queue_runner.store.content import is_name
from queue_runner.store.listing import read_listing

log = logging.getLogger("queue_runner.store")

#: Seconds; a day outlasts any transfer, and results that wait for a collector over night.
DEFAULT_AGE_S = 86400.0


@dataclass(frozen=True, slots=True)
class Collected:
    """What a garbage collection found. leftover_bytes: of broken transfers."""

    store: str
    objects: int
    size_bytes: int
    removed: int
    removed_bytes: int
    leftover_bytes: int
    dry_run: bool


def collect_garbage(
    store: Store,
    referenced: Iterable[str],
    *,
    finished: Callable[[str], bool],
    older_than_s: float,
    dry_run: bool,
) -> Collected:
    """Remove the objects that are not in `referenced` and were last put that many seconds ago.

    What is marked is needed, with the files that it lists, unless `finished` says of the mark's name that
    it is the id of a finished job: such marks are forgotten.
    dry_run: only count them. Memory stays bounded however many there are.
    """
    objects = size_bytes = removed = removed_bytes = 0
    with _needed(chain(referenced, _marked(store, finished, dry_run))) as needed:
        for entry in store.entries():
            objects, size_bytes = objects + 1, size_bytes + entry.size_bytes
            if time.time() - entry.modified_at < older_than_s or entry.sha256 in needed:
                continue
            if dry_run or store.delete(entry.sha256, older_than_s):
                removed, removed_bytes = removed + 1, removed_bytes + entry.size_bytes
    leftover_bytes = store.sweep(max(older_than_s, DEFAULT_AGE_S), dry_run=dry_run)
    return Collected(
        store.name, objects, size_bytes, removed, removed_bytes, leftover_bytes, dry_run
    )


def _marked(store: Store, finished: Callable[[str], bool], dry_run: bool) -> Iterator[str]:
    for name, sha256 in store.marks():
        if finished(name):
            if not dry_run:
                store.unmark(name)
            continue
        yield sha256
        try:
            yield from (file.sha256 for file in read_listing(store, sha256).files)
        except (NotFound, StoreDamaged) as error:
            log.warning("the mark %s means nothing that can be read: %s", name, error)


class _Needed:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __contains__(self, sha256: str) -> bool:
        found = self._connection.execute(
            "SELECT 1 FROM needed WHERE name = ?", [bytes.fromhex(sha256)]
        )
        return found.fetchone() is not None


@contextmanager
def _needed(referenced: Iterable[str]) -> Iterator[_Needed]:
    # an empty name is a temporary database on disk: a million results name millions of artifacts
    with closing(sqlite3.connect("")) as connection:
        connection.execute("CREATE TABLE needed (name BLOB PRIMARY KEY) WITHOUT ROWID")
        rows = ([bytes.fromhex(name)] for name in referenced if is_name(name))
        connection.executemany("INSERT OR IGNORE INTO needed VALUES (?)", rows)
        yield _Needed(connection)
