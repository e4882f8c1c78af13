"""`status`, `watch`, `results`, `logs`, `plot`: look at studies."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from queue_runner.cli.app import EXIT_JOBS_FAILED, EXIT_OK, app, say
from queue_runner.cli.options import CollectorUrl, Folder, Json, StudyName, TokenFile, print_json
from queue_runner.errors import NotFound

if TYPE_CHECKING:
    from queue_runner.client.client import Client, StudyHandle
    from queue_runner.model import Result, StudyStatus
    from queue_runner.tables import Row

_RUNS = Path("runs")
_WATCH_POLL_S = 0.5
_LOG_LINES = 40


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class StateName(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@app.command(epilog="Example: queue-runner status --collector http://lab:8787")
def status(
    study: StudyName = None,
    folder: Folder = _RUNS,
    collector: CollectorUrl = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """How far studies are, and which workers are there."""
    from queue_runner.cli.render import console, status_table, workers_table
    from queue_runner.cli.source import open_client

    with open_client(folder, collector=collector, token_file=token_file) as client:
        statuses = [client.handle(study).status()] if study else client.studies()
        workers = client.workers()
    if as_json:
        print_json(
            {
                "studies": [dataclasses.asdict(item) for item in statuses],
                "workers": [dataclasses.asdict(item) for item in workers],
            }
        )
        return
    out = console()
    if not statuses:
        out.print("no studies yet; queue-runner run STUDY.yaml makes one")
        return
    out.print(status_table(statuses))
    if workers:
        out.print(workers_table(workers))


@app.command(epilog="Example: queue-runner watch cavity")
def watch(
    study: StudyName = None,
    folder: Folder = _RUNS,
    collector: CollectorUrl = None,
    token_file: TokenFile = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="No bar: a line of JSON whenever something has changed.")
    ] = False,
) -> int:
    """Follow a study with a progress bar until every job has a result. Ctrl-C only stops watching."""
    from queue_runner.cli.source import open_client, pick

    with open_client(folder, collector=collector, token_file=token_file) as client:
        handle = pick(client, study)
        if as_json:
            _print_changes(handle)
        else:
            follow(handle)
        return EXIT_JOBS_FAILED if handle.status().failed else EXIT_OK


def _print_changes(handle: StudyHandle) -> None:
    last = None
    for now in _statuses(handle):
        if now != last:
            typer.echo(json.dumps(dataclasses.asdict(now)))
            sys.stdout.flush()
        last = now


def follow(handle: StudyHandle, *, quiet: bool = False) -> None:
    from queue_runner.cli.render import progress_bar

    with progress_bar(handle.id, quiet=quiet) as bar:
        for now in _statuses(handle):
            bar.update(now)


def _statuses(handle: StudyHandle) -> Iterator[StudyStatus]:
    """How far a study is, again and again until it is done."""
    while True:
        try:
            now = handle.status()
        except NotFound:  # submitted a moment ago: the collector has not taken it in yet
            time.sleep(_WATCH_POLL_S)
            continue
        yield now
        if now.done:
            return
        time.sleep(_WATCH_POLL_S)


@app.command(epilog="Example: queue-runner results cavity --format csv --out cavity.csv")
def results(
    study: StudyName = None,
    folder: Folder = _RUNS,
    collector: CollectorUrl = None,
    token_file: TokenFile = None,
    output: Annotated[Format, typer.Option("--format", "-f", help="How to write them.")] = (
        Format.TABLE
    ),
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write to a file.")
    ] = None,
    state: Annotated[
        list[StateName] | None, typer.Option("--state", help="Only these; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The results of a study so far: a row a job, with its parameters and what was measured."""
    from queue_runner.cli.source import open_client, pick
    from queue_runner.client.frames import write_parquet
    from queue_runner.model import State
    from queue_runner.tables import json_lines

    output = Format.JSON if as_json else output
    with open_client(folder, collector=collector, token_file=token_file) as client:
        handle = pick(client, study)
        rows = handle.rows([State(name.value) for name in state or []])
        if output is Format.PARQUET:
            if out is None:
                raise typer.BadParameter("Parquet needs a file: --out FILE", param_hint="--out")
            write_parquet(rows, out)
        elif output is Format.TABLE:
            _print_table(list(rows), out, handle.id)
        else:
            parameters = handle.record().parameters
            lines = _csv(rows, parameters) if output is Format.CSV else json_lines(rows)
            _write(lines, out)


def _csv(rows: Iterable[Row], parameters: Sequence[str]) -> Iterable[str]:
    from queue_runner.tables import csv_lines, fixed_columns

    listed = list(rows)
    # a reader of the file wants its header, also where there is no row yet
    return csv_lines(listed, None if listed else fixed_columns(parameters))


def _print_table(rows: list[Row], out: Path | None, title: str) -> None:
    from rich.console import Console

    from queue_runner.cli.render import console, results_table

    if out is None:
        shown = results_table(rows, title=title) if rows else f"{title}: no results to show"
        console().print(shown)
        return
    with out.open("w", encoding="utf-8") as file:
        Console(file=file, width=200, markup=False).print(results_table(rows, title=title))


def _write(lines: Iterable[str], out: Path | None) -> None:
    if out is None:
        for line in lines:
            if sys.stdout.isatty():
                say(line.rstrip("\r\n"))
            else:
                typer.echo(line, nl=False)
        return
    with out.open("w", newline="", encoding="utf-8") as file:
        file.writelines(lines)


@app.command(epilog="Example: queue-runner logs cavity-1f0c9a7e21.0000003")
def logs(
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job's id, as `results` lists it.")],
    folder: Folder = _RUNS,
    collector: CollectorUrl = None,
    token_file: TokenFile = None,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="Which attempt; default: the last.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="All that every step wrote, from the store.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The end of a job's log, and why it failed; with --full all of its logs."""
    from queue_runner.cli.source import open_client

    with open_client(folder, collector=collector, token_file=token_file) as client:
        result = _attempt(_attempts(client, job), job, attempt)
        if as_json:
            from queue_runner.wire import to_plain

            print_json(to_plain(result))
            return
        say(f"{job}: attempt {result.attempt} {result.state} on {result.worker}")
        if result.failure is not None:
            say(f"{result.failure.reason}: {result.failure.message}")
        if result.log_tail and not full:
            say(result.log_tail)
            return
        kept = list(client.logs(result))
    for name, text in kept if full else kept[-1:]:
        say(f"--- {name}")
        say(text if full else "\n".join(text.splitlines()[-_LOG_LINES:]))


def _attempts(client: Client, job: str) -> list[Result]:
    try:
        return client.records.attempts(job)
    except NotFound:
        if "." in job:
            raise
        study = client.handle(job).id
    raise NotFound(
        f"{job} is a study; name one of its jobs, such as {study}.0000000 (`queue-runner results {job}`"
        " lists them)"
    )


def _attempt(attempts: list[Result], job: str, number: int | None) -> Result:
    chosen = [result for result in attempts if number in (None, result.attempt)]
    if not chosen:
        there = ", ".join(str(result.attempt) for result in attempts) or "none"
        raise NotFound(f"{job} has no attempt {number}; there are: {there}")
    return chosen[-1]


@app.command(
    epilog="Example: queue-runner plot cavity --x nu --y p_max --by speed --out cavity.png"
)
def plot(
    study: StudyName = None,
    folder: Folder = _RUNS,
    collector: CollectorUrl = None,
    token_file: TokenFile = None,
    x: Annotated[str | None, typer.Option("--x", help="Column on the x axis.")] = None,
    y: Annotated[str | None, typer.Option("--y", help="Column on the y axis.")] = None,
    by: Annotated[str | None, typer.Option("--by", help="Column with a line each.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG, SVG or PDF.")] = Path("plot.png"),
    as_json: Json = False,
) -> None:
    """Draw a measured value over a parameter."""
    from queue_runner.cli.source import open_client, pick
    from queue_runner.client.plots import choose_axes, draw
    from queue_runner.client.runs import metric_names

    with open_client(folder, collector=collector, token_file=token_file) as client:
        handle = pick(client, study)
        rows = list(handle.rows())
        record = handle.record()
        axes = choose_axes(rows, record.parameters, metric_names(handle), x=x, y=y, by=by)
    draw(rows, axes, out, title=record.name)
    if as_json:
        print_json({"out": str(out), "x": axes.x, "y": axes.y, "by": axes.by})
        return
    say(f"{out}: {axes.y} over {axes.x}" + (f", a line for each {axes.by}" if axes.by else ""))
