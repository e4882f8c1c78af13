"""What a worker that is started anew leaves to its successor: attempts whose containers go on meanwhile.

A file for each, in the folder that both own one after the other. See docs/decisions/hand-over.md.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgpack

from queue_runner.errors import WireError
from queue_runner.wire import from_plain, to_plain
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.runtimes.base import Left

log = logging.getLogger("queue_runner.worker")

_VERSION = 1
_FOLDER = "handed-over"


@dataclass(frozen=True, slots=True)
class Handed:
    """An attempt up to where it was left.

    folder: the name of its work folder; done: names of the steps that have ended, the first of `steps`; left:
    how the next one goes on, None where it is to be started. began: by `running_s`.
    """

    job_id: str
    folder: str
    steps: tuple[Step, ...]
    started_at: float
    began: float
    left: Left | None = None
    logs: tuple[str, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)
    done: tuple[str, ...] = ()
    resumed_from: str | None = None


def running_s() -> float:
    """Seconds since the start of this host: the same for a worker and its successor."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Handovers:
    """Those in the folder of a worker's runtime. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _FOLDER

    def write(self, handed: Handed) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        content = msgpack.packb([_VERSION, to_plain(handed)], use_bin_type=True)
        partial = self._folder / f".{handed.job_id}"
        partial.write_bytes(content)
        os.replace(partial, self._folder / handed.job_id)

    def has(self, job_id: str) -> bool:
        return (self._folder / job_id).is_file()

    def any(self) -> bool:
        return bool(self.job_ids())

    def job_ids(self) -> list[str]:
        if not self._folder.is_dir():
            return []
        return sorted(each.name for each in self._folder.iterdir() if each.name[0] != ".")

    def take(self, job_id: str) -> Handed | None:
        """What is there of a job, which from now on is the caller's."""
        path = self._folder / job_id
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        path.unlink()
        try:
            version, plain = msgpack.unpackb(content)
            if version != _VERSION:
                raise WireError(f"it is of version {version!r:.20}")
            return from_plain(Handed, plain)
        except (ValueError, TypeError, WireError) as error:
            # of a version that wrote something else: its container is found by its labels
            log.warning("%s begins anew: what was left of it cannot be read: %s", job_id, error)
            return None
