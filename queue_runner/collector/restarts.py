"""Arrival numbers after a power cut.

It may undo commits that followers have been told of. What is delivered again could come in another order, and
under the number that a follower has seen: so numbers go on far above all that were given before.
"""

from __future__ import annotations

import uuid
import zlib
from pathlib import Path

from sqlalchemy import Connection, update

from queue_runner.collector import schema

#: Linux names each start of the machine.
_START = Path("/proc/sys/kernel/random/boot_id")
#: More than the results of one study that are on their way to the disk at a time.
_LEAP = 1_000_000_000


def renumber(connection: Connection) -> bool:
    """Let numbers leap if the machine was started since this SQLite file was last opened; did they?"""
    start = zlib.crc32(_machines_start().encode()) & 0x7FFFFFFF
    if connection.exec_driver_sql("PRAGMA user_version").scalar_one() == start:
        return False
    table = schema.study
    connection.execute(update(table).values(arrivals=table.c.arrivals + _LEAP))
    connection.exec_driver_sql(f"PRAGMA user_version = {start}")
    return True


def _machines_start() -> str:
    try:
        return _START.read_text()
    except OSError:  # no Linux: as if it had been started just now
        return uuid.uuid4().hex
