"""`fetch`: bring artifacts back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from queue_runner.cli.app import EXIT_JOBS_FAILED, EXIT_OK, app, say
from queue_runner.cli.options import CollectorUrl, Folder, Json, TokenFile, print_json
from queue_runner.errors import NotFound

if TYPE_CHECKING:
    from queue_runner.client.client import Client
    from queue_runner.client.fetch import Fetched
    from queue_runner.model import Result

#: Files that could not be brought, of which each is named; the rest is counted.
_REFUSED_SHOWN = 10


@app.command(epilog="Example: queue-runner fetch cavity -o artifacts --match 'postProcessing/*'")
def fetch(
    name: Annotated[
        str, typer.Argument(metavar="STUDY|JOB", help="A study's id or name, or a job's id.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Where DIR/JOB/FILE is written.")
    ] = Path("artifacts"),
    match: Annotated[
        list[str] | None,
        typer.Option("--match", metavar="GLOB", help="Only files of such names; may be repeated."),
    ] = None,
    folder: Folder = Path("runs"),
    collector: CollectorUrl = None,
    token_file: TokenFile = None,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="URL", help="Where the artifacts are, if elsewhere."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Json = False,
) -> int:
    """Write the files that jobs kept to a folder, with the names they had, verified by their hashes.

    Interrupted, the same command goes on where it stopped.
    """
    from queue_runner.cli.source import open_client
    from queue_runner.client.fetch import fetch_results, wanted

    patterns = match or []
    with open_client(folder, collector=collector, token_file=token_file, store=store) as client:
        results = _results(client, name)
        total = sum(a.size_bytes for result in results() for a in wanted(result, patterns))
        with _bar(name, total, quiet=quiet or as_json) as advance:
            fetched = fetch_results(
                client.store, results(), out, patterns=patterns, progress=advance
            )
    if as_json:
        print_json({"folder": str(out.absolute()), **dataclasses.asdict(fetched)})
    else:
        _say(fetched, out)
    return EXIT_JOBS_FAILED if fetched.not_fetched else EXIT_OK


def _results(client: Client, name: str) -> Callable[[], Iterator[Result]]:
    """A job's result, or those of a study, as often as they are asked for."""
    try:
        handle = client.handle(name)
    except NotFound as no_study:
        try:
            result = client.result(name)
        except NotFound:
            raise NotFound(f"neither a study nor a finished job: {no_study}") from no_study
        return lambda: iter([result])
    return handle.results


@contextmanager
def _bar(name: str, total_bytes: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from queue_runner.cli.render import console

    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console(stderr=True), disable=quiet) as progress:
        task = progress.add_task(name, total=total_bytes)
        yield lambda count_bytes: progress.advance(task, count_bytes)


def _say(fetched: Fetched, out: Path) -> None:
    for line in fetched.refused[:_REFUSED_SHOWN]:
        say(f"not fetched: {line}", err=True)
    if fetched.not_fetched > _REFUSED_SHOWN:
        say(f"... and {fetched.not_fetched - _REFUSED_SHOWN} more", err=True)
    there = f" ({fetched.there_already} were there)" if fetched.there_already else ""
    mebibytes = fetched.size_bytes / 1024**2
    say(f"{out}/: {fetched.files} files, {mebibytes:.1f} MiB{there}, hashes verified")
