"""The folder of embedded runs: `runs/STUDY-ID/` for each study, and one store beside them.

runs/
  store/                 templates and artifacts by SHA-256
  cavity-1f0c9a7e21/
    state/               broker.sqlite, collector.sqlite, keys.json, lock, broker.url while it runs
    work/                work folders of running (and, if asked, failed) jobs
    results.csv, plot.png
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from queue_runner.collector.database import Database
from queue_runner.errors import FixThis, NotFound
from queue_runner.model import (
    AddedPoint,
    Allotment,
    MissingJob,
    Result,
    State,
    StudyRecord,
    StudyStatus,
    WorkerStatus,
)
from queue_runner.records import Arrivals
from queue_runner.signing import Seal, open_seal
from queue_runner.signing.file import write_key_file
from queue_runner.signing.keys import Key, KeySet

#: Below this much free space neither the broker's journal nor the database can go on.
_ROOM_BYTES = 4 * 1024 * 1024


class RunFolder:
    """Paths of one study's embedded run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"
        self.journal = self.state / "broker.sqlite"
        self.database = self.state / "collector.sqlite"
        self.broker_url = self.state / "broker.url"
        self.keys = self.state / "keys.json"
        self.work = root / "work"
        self.table = root / "results.csv"
        self.plot = root / "plot.png"

    def make(self) -> None:
        _make(self.state)
        _make(self.work)

    def check_room(self) -> None:
        """Raises `FixThis` when the disk is as good as full: a run would wait for room in silence."""
        free = shutil.disk_usage(self.root).free
        if free < _ROOM_BYTES:
            raise FixThis(
                f"{self.root}: {free // 1024} KiB are free on this disk, and a run needs"
                f" {_ROOM_BYTES // 1024**2} MiB beside what its jobs write. Make room, or choose another"
                " --folder; the same command goes on where it stopped."
            )

    def seal(self) -> Seal:
        """Of the run's own keys. A run that was begun without any goes on without."""
        # on a disk that knows no rights, the broker's journal beside them is as open as they are
        return open_seal(self.keys if self.keys.exists() else None, guarded=False)

    def make_keys(self) -> None:
        """Once, before there is any message."""
        if not self.keys.exists() and not self.journal.exists():
            write_key_file(self.keys, KeySet({}).with_key(Key.make("run", time.time())))

    def open_database(self) -> Database:
        return Database(f"sqlite:///{self.database}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock: one process at a time runs a study in a folder."""
        with (self.state / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                raise FixThis(
                    f"{self.root}: another queue-runner (process {lock.read().strip() or 'unknown'})"
                    " is running this study. Watch it with `queue-runner watch`, or end it first."
                ) from error
            lock.seek(0)
            lock.truncate()
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def running(self) -> bool:
        """Whether some process holds the lock right now."""
        try:
            with (self.state / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FixThis(
            f"{folder}: cannot be made: {error.strerror}. Choose another --folder."
        ) from error


class RunsFolder:
    """All embedded runs below one folder, as `Records`. Reads only; safe beside a running run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._open: dict[Path, Database] = {}

    def make(self) -> None:
        """Raises `FixThis` where it cannot be made."""
        _make(self.root)

    def namesakes(self, name: str, study_id: str) -> list[str]:
        """Other studies of this name: what it was before its file was changed."""
        return [each.id for each in self.studies() if each.name == name and each.id != study_id]

    @property
    def store_url(self) -> str:
        return (self.root / "store").absolute().as_uri()

    def run(self, study_id: str) -> RunFolder:
        return RunFolder(self.root / study_id)

    def find(self, study: str) -> RunFolder:
        """The run of a study, by id, or by name: then the latest of that name."""
        return self.run(self._status_of(study).id)

    def studies(self) -> list[StudyStatus]:
        found = [status for database in self._databases() for status in database.studies()]
        return sorted(found, key=lambda status: status.submitted_at, reverse=True)

    def study(self, study: str) -> StudyRecord:
        status = self._status_of(study)
        return self._database(self.run(status.id)).study(status.id)

    def status(self, study: str) -> StudyStatus:
        return self._status_of(study)

    def results(
        self, study: str, *, after: int = -1, limit: int = 1000, states: Sequence[State] = ()
    ) -> list[Result]:
        run = self.find(study)
        return self._database(run).results(run.root.name, after=after, limit=limit, states=states)

    def arrivals(
        self,
        study: str,
        *,
        cursor: int = 0,
        limit: int = 1000,
        wait_s: float = 0.0,
        more: bool = False,
    ) -> Arrivals:
        run = self.find(study)
        return self._database(run).arrivals(
            run.root.name, cursor=cursor, limit=limit, wait_s=wait_s, more=more
        )

    def missing(self, study: str, *, after: int = -1, limit: int = 1000) -> list[MissingJob]:
        run = self.find(study)
        return self._database(run).missing(run.root.name, after=after, limit=limit)

    def points(self, study: str, *, after: int = -1, limit: int = 1000) -> list[AddedPoint]:
        run = self.find(study)
        return self._database(run).points(run.root.name, after=after, limit=limit)

    def allot(self, study: str, count: int) -> Allotment:
        run = self.find(study)
        return self._database(run).allot(run.root.name, count)

    def result(self, job_id: str) -> Result:
        return self._of_job(job_id).result(job_id)

    def attempts(self, job_id: str) -> list[Result]:
        return self._of_job(job_id).attempts(job_id)

    def references(self) -> Iterator[str]:
        """Hashes of all that the runs need of the store; see `Database.references`."""
        for database in self._databases():
            yield from database.references()

    def is_finished(self, job_id: str) -> bool:
        """Whether a job has its final result; False for one that no run here has."""
        return any(database.is_finished(job_id) for database in self._databases())

    def workers(self) -> list[WorkerStatus]:
        return [
            worker
            for run in self._runs()
            if run.running()
            for worker in self._database(run).workers()
        ]

    def close(self) -> None:
        for database in self._open.values():
            database.close()
        self._open.clear()

    def _of_job(self, job_id: str) -> Database:
        study_id, _, number = job_id.rpartition(".")
        run = self.run(study_id)
        if not number or "/" in job_id or not run.database.exists():
            raise NotFound(
                f"no job {job_id!r} below {self.root}; `queue-runner results` lists them"
            )
        return self._database(run)

    def _status_of(self, study: str) -> StudyStatus:
        studies = self.studies()
        for status in studies:
            if study in (status.id, status.name):
                return status
        known = ", ".join(dict.fromkeys(status.id for status in studies)) or "none yet"
        raise NotFound(f"no study {study!r} below {self.root}; there are: {known}")

    def _runs(self) -> list[RunFolder]:
        return [
            RunFolder(path.parent.parent) for path in self.root.glob("*/state/collector.sqlite")
        ]

    def _databases(self) -> list[Database]:
        return [self._database(run) for run in self._runs()]

    def _database(self, run: RunFolder) -> Database:
        if run.root not in self._open:
            self._open[run.root] = run.open_database()
        return self._open[run.root]
