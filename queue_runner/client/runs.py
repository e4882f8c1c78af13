"""Run a study on this machine and write its table and plot: what `queue-runner run` does.

from queue_runner import run
handle = run(study, folder="runs", progress=lambda status: print(status.finished))
print(handle.table())
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from queue_runner.client.client import Client, StudyHandle, pinned
from queue_runner.client.config import load_config
from queue_runner.client.embedded import WAIT_S, Embedded, embedded
from queue_runner.client.folder import RunFolder, RunsFolder
from queue_runner.client.plots import choose_axes, draw
from queue_runner.client.runtimes import AUTO, choose_runtime
from queue_runner.client.submit import send_template
from queue_runner.errors import FixThis, MissingTool, NotFound, StudyError
from queue_runner.model import StudyRecord, StudyStatus
from queue_runner.tables import csv_lines, metric_column
from queue_runner.workers.settings import WorkerSettings

if TYPE_CHECKING:
    from queue_runner.study import Study

#: A run is one process on one machine: a lease only has to outlast a pause of that process.
_LEASE_S = 30.0
#: Seconds that running jobs get to end by themselves when a run is interrupted.
GRACE_S = 2.0
#: Seconds between looks at a run when nothing changes, and at least.
_POLL_S, _PACE_S = 0.1, 0.02


@dataclass(frozen=True, slots=True)
class RunSettings:
    """folder: holds `STUDY-ID/` for each study and the store they share. cores, memory: None for all.

    warm: with runtime `docker`, containers serve one job after another.
    """

    folder: Path = Path("runs")
    cores: int | None = None
    memory_bytes: int | None = None
    keep_folders: str = "failed"
    runtime: str = "process"
    warm: bool = False

    @property
    def usable_cores(self) -> int:
        return self.cores or len(os.sched_getaffinity(0))


class LocalRun:
    """A study that is being run here. `handle` works as it does for a remote one."""

    def __init__(self, run: RunFolder, handle: StudyHandle, system: Embedded) -> None:
        self.run = run
        self.handle = handle
        self._system = system

    def follow(
        self, seen: Callable[[StudyStatus], None], interrupted: threading.Event
    ) -> StudyStatus:
        """Call `seen` with the status until all jobs have a result or `interrupted` is set."""
        changed = threading.Event()
        with self._system.database.news.listening(lambda studies: changed.set()):
            while True:
                changed.clear()
                self._system.check()
                self.run.check_room()
                status = self.handle.status_or_none()
                if status is not None:
                    seen(status)
                    if status.done:
                        return status
                # results may come by the hundred in a second, and each look costs a little
                if interrupted.wait(_PACE_S):
                    return self.handle.status()
                changed.wait(_POLL_S)

    def drain(self) -> None:
        self._system.drain()


@contextmanager
def local_run(study: Study, settings: RunSettings) -> Iterator[LocalRun]:
    """Start the embedded system on the study's folder and submit what has not been submitted.

    On leaving, running jobs get `GRACE_S` seconds, the rest stays queued in the folder.
    Raises `StudyError` for a job that this machine can never run.
    """
    study = pinned(study)
    runs = RunsFolder(settings.folder)
    runs.make()
    record = _record(study, runs.store_url)
    run = runs.run(record.id)
    run.make()
    run.check_room()
    with embedded(run, _worker(study, settings, run, runs.store_url)) as system:
        client = Client.over(system.database, system.broker, runs.store_url, system.seal)

        def attend() -> None:
            system.check()
            run.check_room()

        client.attend = attend
        # what the last run left for the collector tells how far its submission got
        client.await_inbox()
        handle = client.submit(study)
        yield LocalRun(run, handle, system)


def _record(study: Study, store_url: str) -> StudyRecord:
    from queue_runner.store import open_store

    store = open_store(store_url, bundles=load_config().bundles)
    return study.record(send_template(study, store), time.time())


def _worker(study: Study, settings: RunSettings, run: RunFolder, store_url: str) -> WorkerSettings:
    largest = study.largest_cores()
    if largest > settings.usable_cores:
        raise StudyError(
            f"study {study.name}: a job needs {largest} cores, but {settings.usable_cores} are to be"
            f" used here. Ask for --cores {largest} to run it with shared cores, or submit it to a"
            " larger worker."
        )
    return WorkerSettings(
        name=f"run-{os.getpid()}",
        queues=(study.queue,),
        cores=settings.usable_cores,
        memory_bytes=settings.memory_bytes,
        scratch=run.work,
        store_url=store_url,
        lease_s=_LEASE_S,
        grace_s=GRACE_S,
        keep_folders=settings.keep_folders,
        runtime=settings.runtime,
        warm=settings.warm,
        bundles=load_config().bundles,
        wait_s=WAIT_S,
    )


@contextmanager
def existing_run(runs: RunsFolder, run: RunFolder) -> Iterator[Client]:
    """A client that can cancel and retry in a run's folder, whether or not it is running right now."""
    from queue_runner.brokers.registry import connect

    if run.running():
        try:
            url = run.broker_url.read_text()
        except FileNotFoundError as error:
            raise FixThis(
                f"{run.root}: a run is just starting or ending; try again in a moment"
            ) from error
        with closing(run.open_database()) as database, connect(url) as broker:
            yield Client.over(database, broker, runs.store_url, run.seal())
    else:
        with embedded(run, None) as system:
            client = Client.over(system.database, system.broker, runs.store_url, system.seal)
            client.await_inbox()
            yield client


def write_outputs(handle: StudyHandle, run: RunFolder) -> list[Path]:
    """Write the table and, where there is something to draw, the plot; returns what was written."""
    rows = list(handle.rows())
    _replace(run.table, "".join(csv_lines(rows)))
    written = [run.table]
    record = handle.record()
    try:
        axes = choose_axes(rows, record.parameters, metric_names(handle))
        draw(rows, axes, run.plot, title=record.name)
        written.append(run.plot)
    except (FixThis, NotFound) as error:
        if isinstance(error, MissingTool):
            raise
    return written


def metric_names(handle: StudyHandle) -> list[str]:
    """Columns of what was measured, in the order they first appear."""
    parameters = handle.record().parameters
    names: dict[str, None] = {}
    for result in handle.results():
        names.update((metric_column(name, parameters), None) for name in result.metrics)
    return list(names)


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise FixThis(
            f"{path}: cannot be written: {error.strerror}. The results are safe in the run's folder;"
            " `queue-runner results` writes them elsewhere."
        ) from error


def run(
    study: Study,
    folder: str | Path = "runs",
    *,
    cores: int | None = None,
    runtime: str = AUTO,
    warm: bool = False,
    progress: Callable[[StudyStatus], None] = lambda status: None,
) -> StudyHandle:
    """Run a study here to its end; returns a handle to its results, which stay in `folder`.

    runtime: "docker", "process", or "auto": containers where a Docker engine has the kind's image.
    warm: containers, where there are any, serve one job after another.
    Interrupted (KeyboardInterrupt, or killed), the same call goes on where it stopped.
    """
    study.insist_on_points()
    settings = _settings(study, folder, cores, runtime, warm=warm)
    with local_run(study, settings) as local:
        local.follow(progress, threading.Event())
        study_id = local.handle.id
        write_outputs(local.handle, local.run)
    runs = RunsFolder(settings.folder)
    return StudyHandle(Client.over(runs, None, runs.store_url), study_id)


@contextmanager
def run_open(
    study: Study,
    folder: str | Path = "runs",
    *,
    cores: int | None = None,
    runtime: str = AUTO,
    warm: bool = False,
) -> Iterator[StudyHandle]:
    """Run an open study here: its handle's `evaluate`, `add` and `next_result` make and tell of jobs.

        with run_open(study) as handle:
            best = minimise(lambda x: handle.evaluate({"x": x}).metrics["y"])

    folder, cores, runtime, warm: as for `run`. On leaving, table and plot are written; what was added and has
    not ended runs when the same study is opened again, which also tells the results of before.
    Raises `StudyError` for a study that is not open, and what ends the system while results are waited for.
    """
    if not study.open:
        raise StudyError(f"study {study.name} is not open: `run` runs it (see `open` in a study)")
    with local_run(study, _settings(study, folder, cores, runtime, warm=warm)) as local:
        yield local.handle
        if local.handle.status().finished:
            write_outputs(local.handle, local.run)


def _settings(
    study: Study, folder: str | Path, cores: int | None, runtime: str, *, warm: bool
) -> RunSettings:
    name = choose_runtime(study, lambda text: None) if runtime == AUTO else runtime
    return RunSettings(
        folder=Path(folder), cores=cores, runtime=name, warm=warm and name == "docker"
    )
