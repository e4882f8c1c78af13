"""Checkpoints: what an attempt keeps in the store while it runs, and another one goes on from.

The files of a checkpoint are objects, so that what has not changed is not sent again; the job's id is a
mark that means the list of them, and is forgotten once the job has its final result.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from queue_runner.errors import (
    JobError,
    NotFound,
    StoreDamaged,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    TooBig,
)
from queue_runner.model import Job, Reason
from queue_runner.store import Store
from queue_runner.store.listing import Listed, Listing, get_files, put_listing, read_listing
from queue_runner.workers.artifacts import open_kept
from queue_runner.workers.kinds.base import Kind
from queue_runner.workers.runtimes.base import DRAINED, Stop

log = logging.getLogger("queue_runner.worker")

#: What a checkpoint may not be made for; the job itself goes on.
_TROUBLE = (StoreUnavailable, StoreRefused, StoreFull, TooBig, OSError, JobError)
#: Failures that would only come again where an attempt goes on: the next one begins anew.
_BEGIN_ANEW = (
    Reason.PREPARE,
    Reason.MISSING_PROGRAM,
    Reason.DIVERGED,
    Reason.METRICS,
    Reason.IMAGE,
    Reason.BROKEN_KIND,
)


class Checkpoints:
    """Those of one attempt.

    done: names of its steps that have ended well; logs: those of its steps. Both grow as it goes on.
    """

    def __init__(
        self, store: Store, kind: Kind, job: Job, folder: Path, done: list[str], logs: list[str]
    ) -> None:
        self._store, self._kind, self._job, self._folder = store, kind, job, folder
        self._done, self._logs = done, logs
        self._label: str | None = None
        self._known: dict[str, tuple[tuple[int, int], str]] = {}
        self._over = threading.Event()

    def restore(self) -> str | None:
        """Bring the last checkpoint of the job into its folder; returns its label, None for none.

        Raises `StoreUnavailable`, `StoreRefused`; `StoreDamaged` and `NotFound`, then the folder has parts
        of it.
        """
        sha256 = self._store.marked(self._job.id)
        if sha256 is None:
            return None
        listing = read_listing(self._store, sha256)
        get_files(self._store, listing, self._folder)
        self._logs[:] = listing.logs
        self._label = listing.label
        return listing.label

    def forget(self) -> None:
        """Let the next attempt begin anew. Raises `StoreUnavailable`, `StoreRefused`."""
        self._store.unmark(self._job.id)

    @contextmanager
    def kept(self, stop: Stop) -> Iterator[None]:
        """Keep one now and then, and a last one where the attempt is cut off."""
        assert self._job.resume is not None
        every_s = self._job.resume.every_s
        taking = threading.Thread(target=self._take_each, args=[every_s], name="checkpoints")
        taking.start()
        try:
            yield
        except BaseException as error:
            self._end(taking)
            self._after(error, stop)
            raise
        self._end(taking)

    def _end(self, taking: threading.Thread) -> None:
        self._over.set()
        taking.join()
        self._over.clear()

    def _take_each(self, every_s: float) -> None:
        while not self._over.wait(every_s):
            self.take()

    def _after(self, error: BaseException, stop: Stop) -> None:
        if stop.thrown and stop.reason != DRAINED:
            # somebody else has the job, or nobody wants it
            return
        if isinstance(error, JobError) and error.reason in _BEGIN_ANEW:
            self._forget_for(error)
        else:
            self.take()

    def _forget_for(self, error: JobError) -> None:
        try:
            self.forget()
        except (StoreUnavailable, StoreRefused) as trouble:
            log.warning(
                "%s failed (%s), and a next attempt goes on all the same: %s",
                self._job.id, error.reason, trouble,
            )  # fmt: skip

    def take(self) -> None:
        """Keep a checkpoint, where there is a new one; whatever is in the way is logged."""
        try:
            found = self._kind.checkpoint(self._job, self._folder, tuple(self._done))
            if found is None or found.label == self._label:
                return
            files = []
            for name in found.files:
                if self._over.is_set():
                    return
                files.append(self._listed(name))
            logs = tuple(name for name in self._logs if name in found.files)
            sha256 = put_listing(self._store, Listing(found.label, tuple(files), logs))
            if self._over.is_set():
                return
            self._store.mark(self._job.id, sha256)
        except _TROUBLE as error:
            log.warning("%s: no checkpoint this time: %s", self._job.id, error)
            return
        except Exception:
            log.exception("%s: no checkpoint, for a bug in kind %r", self._job.id, self._job.kind)
            return
        self._label = found.label
        log.info("%s can go on from %s", self._job.id, found.label)

    def _listed(self, name: str) -> Listed:
        with open_kept(self._folder / name) as content:
            status = os.fstat(content.fileno())
            version, executable = (status.st_mtime_ns, status.st_size), bool(status.st_mode & 0o100)
            known = self._known.get(name)
            if known is not None and known[0] == version:
                return Listed(name, known[1], executable)
            sha256, _ = self._store.put(content)
        self._known[name] = version, sha256
        return Listed(name, sha256, executable)


class Forgetter:
    """Forgets the checkpoints of finished jobs, in a thread of its own: the store may be slow or away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._finished: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def add(self, job_id: str) -> None:
        self._finished.put(job_id)

    def finish(self) -> None:
        """Ends `run` once all that was added is done."""
        self._finished.put(None)

    def run(self) -> None:
        while (job_id := self._finished.get()) is not None:
            try:
                self._store.unmark(job_id)
            except (StoreUnavailable, StoreRefused) as error:
                log.warning("the checkpoint of %s is left to `store gc`: %s", job_id, error)


def begin(checkpoints: Checkpoints, job: Job) -> tuple[str | None, bool]:
    """The label of what was restored, and whether the folder has to be made again for want of a whole one."""
    try:
        return checkpoints.restore(), False
    except (StoreDamaged, NotFound) as error:
        log.warning("%s begins anew, for its checkpoint is not whole: %s", job.id, error)
        return None, True
