"""A note in an owner's folder: it is left to the next worker of this name, for so long.

The time is that of the host's uptime, so that no clock that is set matters; another boot is no time left.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

_NAME = "handed-over.json"


@dataclass(frozen=True, slots=True)
class Note:
    """left_s: negative once the time is over."""

    worker: str
    left_s: float


def write(folder: Path, worker: str, within_s: float) -> None:
    partial = folder / f"{_NAME}.part"
    partial.write_text(
        json.dumps({"worker": worker, "boot": _boot(), "until": _uptime_s() + within_s})
    )
    os.replace(partial, folder / _NAME)


def read(folder: Path) -> Note | None:
    try:
        said = json.loads((folder / _NAME).read_text())
        left_s = said["until"] - _uptime_s() if said["boot"] == _boot() else -1.0
        return Note(str(said["worker"]), float(left_s))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove(folder: Path) -> None:
    (folder / _NAME).unlink()


def _uptime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
