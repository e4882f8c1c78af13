"""`cancel` and `retry`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from queue_runner.cli.app import app, say
from queue_runner.cli.options import (
    Broker,
    CollectorUrl,
    Folder,
    Json,
    KeysFile,
    TokenFile,
    print_json,
    text_of,
)

if TYPE_CHECKING:
    from queue_runner.client.client import Client

_RUNS = Path("runs")
_Study = Annotated[str, typer.Argument(metavar="STUDY", help="A study's id or name.")]
_Jobs = Annotated[list[str] | None, typer.Option("--job", help="Only this job; may be repeated.")]


@app.command(epilog="Example: queue-runner cancel cavity")
def cancel(
    study: _Study,
    job: _Jobs = None,
    folder: Folder = _RUNS,
    collector: CollectorUrl = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """End a study's running jobs and do not start the waiting ones. Finished jobs stay."""
    with _controlling(study, folder, collector=collector, token_file=token_file) as client:
        count = client.cancel(study, job or [])
    if as_json:
        print_json({"study": study, "cancelled": count})
    else:
        say(f"{study}: {count} unfinished jobs cancelled")


@app.command(epilog="Example: queue-runner retry cavity --broker redis://localhost")
def retry(
    study: _Study,
    job: _Jobs = None,
    missing: Annotated[
        bool,
        typer.Option("--missing", help="Those that have no result, for a broker lost them."),
    ] = False,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="With --missing: though jobs are still with the broker."),
    ] = False,
    folder: Folder = _RUNS,
    broker: Broker = None,
    collector: CollectorUrl = None,
    token_file: TokenFile = None,
    keys_file: KeysFile = None,
    as_json: Json = False,
) -> None:
    """Enqueue failed and cancelled jobs again, or those that were lost."""
    if job and missing:
        raise typer.BadParameter("--missing takes no --job", param_hint="--missing")
    with _controlling(
        study,
        folder,
        broker=broker,
        collector=collector,
        token_file=token_file,
        keys_file=text_of(keys_file),
    ) as client:
        count = (
            client.retry_missing(study, anyway=anyway)
            if missing
            else client.retry(study, job or [])
        )
    if as_json:
        print_json({"study": study, "enqueued": count})
    else:
        say(f"{study}: {count} jobs enqueued again")


@contextmanager
def _controlling(
    study: str,
    folder: Path,
    *,
    broker: str | None = None,
    collector: str | None = None,
    token_file: Path | None = None,
    keys_file: str | None = None,
) -> Iterator[Client]:
    """A client that may change the study: the collector's, or one in the run's own folder."""
    from queue_runner.cli.source import open_client
    from queue_runner.client.folder import RunsFolder
    from queue_runner.client.runs import existing_run

    with open_client(
        folder, broker=broker, collector=collector, token_file=token_file, keys_file=keys_file
    ) as client:
        if isinstance(client.records, RunsFolder):
            run = client.records.find(study)
            with existing_run(client.records, run) as writing:
                yield writing
            if not run.running() and not client.handle(run.root.name).status().done:
                text = "Nothing runs it right now; `queue-runner run` with its study file goes on."
                say(text, err=True)
        else:
            yield client
