"""What stays of an attempt when it is over: files in the store, and its folder where that is wanted."""

from __future__ import annotations

import logging
import select
import sys
from collections.abc import Sequence
from pathlib import Path

from queue_runner.errors import JobError, StoreFull, StoreRefused, StoreUnavailable, TooBig
from queue_runner.model import Job, Reason
from queue_runner.workers.artifacts import keep_files
from queue_runner.workers.leavings import remove
from queue_runner.workers.record import Record
from queue_runner.workers.runtimes.base import Stop, Stopped
from queue_runner.workers.workplace import Workplace

#: Seconds between tries to keep what a finished job wrote, while its store is away.
_STORE_RETRY_S = 5.0

log = logging.getLogger("queue_runner.worker")


def keep(place: Workplace, job: Job, folder: Path, stop: Stop, record: Record) -> None:
    """Put the logs, and what the job says, into the store, and wait for one that is away.

    Raises `JobError` for what cannot be kept, unless the job has failed already; `Stopped` while it waits.
    """
    failed = sys.exc_info()[1]
    try:
        with record.timed("keep"):
            _keep_when_store_is_there(place, job, folder, stop, record)
    except JobError as error:
        if failed is None:
            raise
        # why the job failed says more than that its files cannot be kept
        log.warning("%s failed, and what it wrote is not kept: %s", job.id, error)


def _own_logs(folder: Path, known: Sequence[str]) -> list[str]:
    """Logs that a step wrote by itself, as OpenFOAM's Allrun does."""
    found = (path for path in folder.glob("log.*") if path.is_file() and not path.is_symlink())
    return sorted(path.name for path in found if path.name not in known)


def _keep_when_store_is_there(
    place: Workplace, job: Job, folder: Path, stop: Stop, record: Record
) -> None:
    waiting = select.poll()
    waiting.register(stop, select.POLLIN)
    while folder.is_dir():
        try:
            logs = [*record.logs, *_own_logs(folder, record.logs)]
            record.artifacts = keep_files(place.store, folder, logs, job.keep)
            return
        except (TooBig, StoreFull) as error:
            text = f"what the job wrote cannot be kept: {error}"
            raise JobError(Reason.STORE, text) from error
        except (StoreUnavailable, StoreRefused) as error:
            # what took days to compute is worth waiting for
            log.warning("%s is finished and waits for its store: %s", job.id, error)
        if waiting.poll(_STORE_RETRY_S * 1000):
            raise Stopped(stop.reason or "")


def leave(place: Workplace, folder: Path, job: Job, *, failed: bool) -> None:
    """Remove a work folder, or put it where those are that stay."""
    if place.keep == "all" or (place.keep == "failed" and failed):
        place.kept.mkdir(parents=True, exist_ok=True)
        target = place.kept / folder.name
        remove(target)
        if folder.is_dir():
            folder.rename(target)
        return
    remove(folder)
