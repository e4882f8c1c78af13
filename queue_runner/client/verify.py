"""Run a study several times, and compare what its jobs wrote: fields byte by byte, metrics digit for digit.

    settings = VerifySettings(folder=Path("verified"), runs=3)
    report = verify_here(study, settings)
    print(report.same, report.differences)

Each run is a study of its own, of the same jobs: `NAME-verify-TOKEN-1`, `-2`, ...; the first is what the
others are compared with.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from queue_runner.client.client import Client, StudyHandle, pinned
from queue_runner.client.folder import RunsFolder
from queue_runner.client.runs import RunSettings, local_run
from queue_runner.client.verdict import Report, VerifySettings, judge
from queue_runner.errors import FixThis
from queue_runner.model import StudyStatus, WorkerStatus
from queue_runner.store import Store, open_store

if TYPE_CHECKING:
    from queue_runner.study import Study

#: Between polls of a study elsewhere.
_POLL_S = 0.5
#: A worker that was not heard of for so long has ended, or cannot be reached.
_SILENT_S = 30.0
_TOKEN = "token"
#: Called with the number of the run, from 1, and how far it is.
Progress = Callable[[int, StudyStatus], None]


def verify_here(
    study: Study,
    settings: VerifySettings,
    progress: Progress = lambda number, status: None,
    interrupted: threading.Event | None = None,
    source: Store | None = None,
) -> Report | None:
    """Run everything on this machine, one run after the other; None when interrupted.

    source: where the template is of a study that was submitted (`Study.from_record`). The same
    call goes on where it was interrupted; once it has come to its report, it begins anew.
    """
    interrupted = interrupted or threading.Event()
    token = _begin(settings.folder)
    runs = RunsFolder(settings.folder)
    if study.bundle is not None and source is not None:
        _copy(study.bundle, source, open_store(runs.store_url))
    handles, places = [], []
    try:
        for number, again in enumerate(_repeated(study, settings, token), 1):
            runtime = settings.runtimes[(number - 1) % len(settings.runtimes)]
            run = RunSettings(settings.folder, settings.cores, None, "none", runtime)
            with local_run(again, run) as local:
                status = local.follow(partial(progress, number), interrupted)
                study_id = local.handle.id
            if not status.done:
                return None
            handles.append(StudyHandle(Client.over(runs, None, runs.store_url), study_id))
            places.append(f"here, runtime {runtime}")
        report = judge(study.name, settings, handles, places)
    finally:
        runs.close()
    _finish(settings.folder)
    return report


def _copy(sha256: str, source: Store, target: Store) -> None:
    with tempfile.TemporaryFile() as content:
        source.get(sha256, content)
        content.seek(0)
        target.put(content)


def verify_elsewhere(
    client: Client,
    study: Study,
    settings: VerifySettings,
    across: str | None = None,
    progress: Progress = lambda number, status: None,
    interrupted: threading.Event | None = None,
    source: Store | None = None,
) -> Report | None:
    """Run everything on the client's workers; None when interrupted.

    source: as for `verify_here`. across: "workers" for each run on a worker of its own, "hosts" on a host
    of its own. Raises `FixThis` where there are too few, or one of them ends.
    """
    interrupted = interrupted or threading.Event()
    study = pinned(study)
    workers: Sequence[str | None] = [None] * settings.runs
    if across is not None:
        workers = _chosen(client.workers(), study, settings.runs, across)
    token = _begin(settings.folder)
    if study.bundle is not None and source is not None:
        _copy(study.bundle, source, client.store)
    handles = [client.submit(again) for again in _repeated(study, settings, token, workers)]
    for number, handle in enumerate(handles, 1):
        if not _followed(client, handle, number, workers, progress, interrupted):
            return None
    places = [f"on {name}" if name else "on any worker" for name in workers]
    report = judge(study.name, settings, handles, places)
    _finish(settings.folder)
    return report


def _repeated(
    study: Study,
    settings: VerifySettings,
    token: str,
    workers: Sequence[str | None] | None = None,
) -> Iterator[Study]:
    study.insist_on_points()
    keep = settings.files or (*study.outputs, *study.keep)
    for number in range(1, settings.runs + 1):
        # names have a limit
        name = f"{study.name[:40]}-verify-{token}-{number}"
        yield study.repeated(name, keep, workers[number - 1] if workers else None)


def _chosen(known: Iterable[WorkerStatus], study: Study, runs: int, across: str) -> list[str]:
    """Names of workers for the runs. Raises `FixThis` where there are too few."""
    largest = study.largest_cores()
    fit = [
        each
        for each in known
        if each.state in ("starting", "working")
        and each.age_s < _SILENT_S
        and study.queue in each.queues
        and each.cores >= largest
    ]
    by_place: dict[str, str] = {}
    for each in sorted(fit, key=lambda status: status.worker):
        by_place.setdefault(each.worker if across == "workers" else each.host, each.worker)
    if len(by_place) < runs:
        there = f"{len(by_place)} ({', '.join(by_place)})" if by_place else "none"
        fewer = f", or ask for --runs {len(by_place)}" if len(by_place) > 1 else ""
        raise FixThis(
            f"{runs} runs need {runs} {across} that take jobs of {largest} cores from the queue"
            f" {study.queue!r}; there are {there}. Start more with `queue-runner worker`{fewer}."
        )
    return list(by_place.values())[:runs]


def _followed(
    client: Client,
    handle: StudyHandle,
    number: int,
    workers: Sequence[str | None],
    progress: Progress,
    interrupted: threading.Event,
) -> bool:
    while True:
        status = handle.status_or_none()
        if status is not None:
            progress(number, status)
            if status.done:
                return True
        if interrupted.wait(_POLL_S):
            return False
        _check_worker(client, workers[number - 1])


def _check_worker(client: Client, name: str | None) -> None:
    """Nobody else runs what is meant for one worker."""
    if name is None:
        return
    there = [each for each in client.workers() if each.worker == name and each.state != "stopped"]
    if not any(each.age_s < _SILENT_S for each in there):
        raise FixThis(
            f"the worker {name} has ended, and its run with it: start it again with --name {name}, or"
            " begin anew (the same command with another --to)"
        )


def _begin(folder: Path) -> str:
    """The token in the names of the runs: that of a verification that was interrupted, else a new one."""
    file = folder / _TOKEN
    try:
        if not file.exists():
            # what an earlier one has left that came to its end
            for old in (*folder.glob("*-verify-*"), folder / "store"):
                if old.exists():
                    shutil.rmtree(old)
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(secrets.token_hex(3))
        return file.read_text().strip()
    except OSError as error:
        raise FixThis(f"{folder}: {error.strerror}; choose another --to") from error


def _finish(folder: Path) -> None:
    (folder / _TOKEN).unlink()
