"""Copies of the collector's SQLite file, made while it is in use.

With SQLite's own online backup (https://www.sqlite.org/backup.html): a consistent state at every moment,
which a copy of the file is not. A PostgreSQL database has its own tools for this.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from queue_runner.errors import FixThis

_NAME = "collector-{}.sqlite"
#: Pages copied before others get a turn to write.
_PAGES = 1000


def back_up(database: Path, folder: Path, keep: int) -> Path:
    """Make one copy, named by the time (UTC), and remove all but the `keep` newest.

    The copy appears under its name when it is whole. Raises `FixThis` where there is no such database, or
    the folder cannot be written.
    """
    if not database.is_file():
        raise FixThis(f"{database}: there is no such file; name the collector's --database")
    copy = folder / _NAME.format(time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
    part = copy.with_suffix(".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        _copy(database, part)
        part.replace(copy)
        for old in sorted(folder.glob(_NAME.format("*")))[:-keep]:
            old.unlink()
    except (OSError, sqlite3.Error) as error:
        raise FixThis(f"backup of {database} to {copy}: {error}") from error
    return copy


def _copy(database: Path, to: Path) -> None:
    with (
        closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(to)) as target,
    ):
        source.backup(target, pages=_PAGES)
        # one file, whatever the journal mode of the original
        target.execute("PRAGMA journal_mode=DELETE")
