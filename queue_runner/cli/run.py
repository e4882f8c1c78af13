"""`run`: a study from file to table on this machine, with broker, worker and collector embedded."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from queue_runner.cli.app import EXIT_INTERRUPTED, EXIT_JOBS_FAILED, EXIT_OK, app, say
from queue_runner.cli.options import (
    Cores,
    Folder,
    Json,
    Keep,
    KeepFolders,
    Memory,
    StudyFile,
    print_json,
    runtime_name,
    size_bytes,
)
from queue_runner.errors import FixThis

if TYPE_CHECKING:
    from queue_runner.client.client import StudyHandle
    from queue_runner.client.folder import RunFolder
    from queue_runner.model import StudyStatus

_TABLE_ROWS = 40


@app.command(epilog="Example: queue-runner run examples/cavity/study.yaml --cores 2")
def run(
    study_file: StudyFile,
    folder: Folder = Path("runs"),
    cores: Cores = None,
    memory: Memory = None,
    keep_folders: Keep = KeepFolders.FAILED,
    runtime: Annotated[
        str,
        typer.Option(
            "--runtime",
            metavar="NAME",
            parser=runtime_name,
            envvar="QUEUE_RUNNER_RUNTIME",
            help="docker: in containers; process: with what is installed here; auto: in containers where"
            " a Docker engine has the image.",
        ),
    ] = "auto",
    warm: bool = typer.Option(
        False, "--warm", help="In containers, each for one job after another: faster."
    ),
    as_json: Json = False,
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress and no table."),
) -> int:
    """Run a study on this machine with everything embedded; no server is needed.

    Ctrl-C, or even kill -9, loses nothing but the jobs that were running: the same command goes on
    where it stopped. Results land in DIR/STUDY-ID/: results.csv, plot.png, the state of the run.
    """
    from queue_runner.client.runs import RunSettings, local_run, write_outputs
    from queue_runner.client.runtimes import AUTO, choose_runtime
    from queue_runner.study import load_study

    study = load_study(study_file)
    study.insist_on_points()
    name = runtime
    if runtime == AUTO:
        name = choose_runtime(study, lambda text: None if quiet else say(text, err=True))
    if warm and name != "docker":
        raise FixThis(
            f"--warm is for containers, and {study.name} is run with --runtime {name}: say"
            " --runtime docker, or leave --warm out"
        )
    settings = RunSettings(folder, cores, size_bytes(memory), keep_folders.value, name, warm)
    with interruptible() as interrupted, local_run(study, settings) as local:
        if not quiet:
            _say_what_is_there(study.name, local.handle, local.run)
        with _progress(study.name, quiet=quiet) as seen:
            status = local.follow(seen, interrupted)
        if not status.done:
            say("interrupted: giving running jobs back ...", err=True)
            local.drain()
        written = write_outputs(local.handle, local.run)
        if as_json:
            print_json(_summary(local.handle, local.run))
        else:
            if not quiet:
                _show_table(local.handle)
            if status.failed:
                _show_failures(local.handle, status)
            _say_where(local.run, written, status)
    if not status.done:
        return EXIT_INTERRUPTED
    return EXIT_JOBS_FAILED if status.failed else EXIT_OK


@contextmanager
def _progress(name: str, *, quiet: bool) -> Iterator[Callable[[StudyStatus], None]]:
    if quiet:
        # what draws takes its time to import
        yield lambda status: None
        return
    from queue_runner.cli.render import progress_bar

    with progress_bar(name) as bar:
        yield bar.update


def _say_what_is_there(name: str, handle: StudyHandle, run: RunFolder) -> None:
    """A changed study is another study: say so, or its jobs seem to be forgotten."""
    from queue_runner.client.folder import RunsFolder

    status = handle.status_or_none()
    if status is not None and status.finished:
        say(f"{run.root}/: {status.finished} of {status.total} jobs are there already", err=True)
        return
    runs = RunsFolder(run.root.parent)
    try:
        before = runs.namesakes(name, handle.id)
    finally:
        runs.close()
    if before:
        say(
            f"{run.root}/ is new: the study differs from {before[0]}, whose results stay as they are",
            err=True,
        )


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event; a second one ends the program as usual."""
    interrupted = threading.Event()

    def note(number: int, frame: object) -> None:
        interrupted.set()
        signal.signal(number, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_table(handle: StudyHandle) -> None:
    from queue_runner.cli.render import console, results_table

    console().print(results_table(list(handle.rows()), limit=_TABLE_ROWS))


def _show_failures(handle: StudyHandle, status: StudyStatus) -> None:
    from queue_runner.cli.render import console, failures
    from queue_runner.model import State

    out = console()
    failed = list(handle.results([State.FAILED]))
    more = f"More: queue-runner logs JOB, and queue-runner retry {handle.id}"
    for line in failures(failed, status.failed, more=more):
        out.print(line)


def _say_where(run: RunFolder, written: list[Path], status: StudyStatus) -> None:
    counts = f"{status.succeeded} of {status.total} succeeded"
    counts += f", {status.failed} failed" if status.failed else ""
    counts += f", {status.cancelled} cancelled" if status.cancelled else ""
    if not status.done:
        counts += "; the same command goes on with the rest"
    names = ", ".join(path.name for path in written)
    say(f"{counts}. Everything is in {run.root}/ ({names})")


def _summary(handle: StudyHandle, run: RunFolder) -> dict[str, object]:
    import dataclasses

    status = dataclasses.asdict(handle.status())
    return {
        "folder": str(run.root.absolute()),
        **status,
        "results": [dict(r) for r in handle.rows()],
    }
