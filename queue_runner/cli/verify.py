"""`verify`: run a study several times, and compare what its jobs wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from queue_runner.cli.app import EXIT_INTERRUPTED, EXIT_JOBS_FAILED, EXIT_OK, app, say
from queue_runner.cli.options import (
    Broker,
    CollectorUrl,
    Cores,
    Folder,
    Json,
    StoreUrl,
    TokenFile,
    print_json,
    read_token,
    runtime_name,
)
from queue_runner.cli.run import interruptible
from queue_runner.errors import FixThis

if TYPE_CHECKING:
    from queue_runner.client.client import Client
    from queue_runner.client.verdict import Difference, Report, VerifySettings
    from queue_runner.store import Store
    from queue_runner.study import Study
    from queue_runner.tables import Row

_SHOWN_ROWS = 40
_SHOWN_DIFFERENCES = 10


class Across(StrEnum):
    WORKERS = "workers"
    HOSTS = "hosts"


@app.command(epilog="Example: queue-runner verify examples/cavity/study.yaml --runs 3")
def verify(
    study_name: Annotated[
        str,
        typer.Argument(
            metavar="STUDY", help="A study file, or a study that was run: its id or name."
        ),
    ],
    runs: Annotated[int, typer.Option("--runs", min=2, max=100, help="How many.")] = 3,
    across: Annotated[
        Across | None,
        typer.Option(
            "--across", help="Each run on a worker, or a host, of its own; asks a broker."
        ),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime",
            metavar="NAME",
            parser=runtime_name,
            help="Of runs on this machine; given several times: in turn.",
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option("--compare", metavar="GLOB", help="Files to compare; default: all but logs."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="GLOB", help="Files and metrics that are not compared."),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", min=0.0, help="Relative difference of numbers to let pass."),
    ] = 0.0,
    absolute: Annotated[
        float, typer.Option("--absolute", min=0.0, help="Absolute difference to let pass as well.")
    ] = 0.0,
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Where the runs and the report stay.")
    ] = Path("verified"),
    cores: Cores = None,
    folder: Folder = Path("runs"),
    broker: Broker = None,
    collector: CollectorUrl = None,
    token_file: TokenFile = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> int:
    """Run a study several times and compare: files byte by byte, metrics digit for digit.

    On this machine, one run after the other; where a broker is named in any way, on its workers. Succeeds
    when all is the same, or within the tolerance. Interrupted, the same command goes on.
    """
    from queue_runner.cli.source import open_client
    from queue_runner.client.client import Client
    from queue_runner.client.comparing import Tolerance
    from queue_runner.client.config import load_config
    from queue_runner.client.verdict import VerifySettings

    elsewhere = across is not None or "broker" in load_config(broker=broker).given
    if elsewhere and runtime:
        raise typer.BadParameter(
            "workers have a runtime of their own; this is for runs on this machine",
            param_hint="--runtime",
        )
    with ExitStack() as stack:
        study, source = _find(
            study_name,
            lambda: stack.enter_context(
                open_client(folder, collector=collector, token_file=token_file, store=store)
            ),
        )
        settings = VerifySettings(
            folder=to / study.name,
            runs=runs,
            files=tuple(compare or ()),
            ignored=tuple(ignore or ()),
            tolerance=Tolerance(tolerance, absolute),
            runtimes=() if elsewhere else _runtimes(study, runtime or [_usual_runtime()]),
            cores=cores,
        )
        client = None
        if elsewhere:
            token = read_token(token_file)
            client = Client(broker, collector=collector, token=token, store=store)
            stack.enter_context(client)
        report = _run(study, settings, client, across, source, quiet=as_json)
    if report is None:
        say("interrupted; the same command goes on where it stopped", err=True)
        return EXIT_INTERRUPTED
    _write(report, settings.folder)
    if as_json:
        print_json(report.record())
    else:
        _show(report, settings)
    return EXIT_OK if report.agree else EXIT_JOBS_FAILED


def _find(name: str, known: Callable[[], Client]) -> tuple[Study, Store | None]:
    """A study, and where its template is; None for one that a file describes, whose folder is at hand."""
    from queue_runner.client.again import study_again
    from queue_runner.errors import NotFound
    from queue_runner.study import load_study

    path = Path(name)
    if path.is_file() or path.suffix in (".yaml", ".yml"):
        return load_study(path), None
    try:
        client = known()
        return study_again(client.records, client.records.study(name)), client.store
    except NotFound as error:
        if path.exists():
            # says which file to name
            return load_study(path), None
        raise NotFound(f"there is no file {name}, and {error}") from error


def _usual_runtime() -> str:
    """That of `run`."""
    from queue_runner.client.runtimes import AUTO, known_runtime

    try:
        return known_runtime(os.environ.get("QUEUE_RUNNER_RUNTIME", AUTO))
    except ValueError as error:
        raise FixThis(f"QUEUE_RUNNER_RUNTIME: {error}") from error


def _runtimes(study: Study, wanted: list[str]) -> tuple[str, ...]:
    from queue_runner.client.runtimes import AUTO, choose_runtime

    return tuple(
        choose_runtime(study, lambda text: None) if each == AUTO else each for each in wanted
    )


def _run(
    study: Study,
    settings: VerifySettings,
    client: Client | None,
    across: Across | None,
    source: Store | None,
    *,
    quiet: bool,
) -> Report | None:
    from queue_runner.cli.render import progress_bar
    from queue_runner.client.verify import verify_elsewhere, verify_here
    from queue_runner.model import StudyStatus

    total = study.total * settings.runs
    with interruptible() as interrupted, progress_bar(f"verify {study.name}", quiet=quiet) as bar:

        def progress(number: int, status: StudyStatus) -> None:
            from dataclasses import replace

            before = (number - 1) * status.total
            bar.update(replace(status, total=total, succeeded=before + status.succeeded))

        if client is None:
            return verify_here(study, settings, progress, interrupted, source)
        spread = None if across is None else across.value
        return verify_elsewhere(client, study, settings, spread, progress, interrupted, source)


# -- what is shown -----------------------------------------------------------------------------------


def _rows(report: Report) -> Iterator[Row]:
    for each in report.points:
        worst = next((d for d in each.differences if not d.within), None)
        first = worst or next(iter(each.differences), None)
        largest = "not numbers" if each.largest is None else each.largest
        yield {
            "index": each.index,
            **{name: _plain(value) for name, value in each.point.items()},
            "succeeded": f"{each.succeeded}/{len(report.runs)}",
            "files": each.files,
            "same": each.same,
            "metrics": each.metrics,
            "largest_difference": largest,
            "first_difference": _named(first) if first is not None else None,
        }


def _plain(value: object) -> int | float | str | bool | None:
    return value if isinstance(value, int | float | str | bool) or value is None else str(value)


def _named(difference: Difference) -> str:
    return f"{difference.name}, run {difference.run}: {difference.where}"


def _write(report: Report, folder: Path) -> None:
    from queue_runner.tables import csv_lines, finite

    texts = {
        "report.json": json.dumps(finite(report.record()), indent=2, allow_nan=False) + "\n",
        "table.csv": "".join(csv_lines(list(_rows(report)))),
    }
    for name, text in texts.items():
        partial = folder / f"{name}.part"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, folder / name)


def _show(report: Report, settings: VerifySettings) -> None:
    from queue_runner.cli.render import console, results_table

    out = console()
    out.print(results_table(list(_rows(report)), limit=_SHOWN_ROWS))
    places = "; ".join(f"run {number} {where}" for number, where in enumerate(report.runs, 1))
    say(places)
    differences = [each for point in report.points for each in point.differences]
    for each in differences[:_SHOWN_DIFFERENCES]:
        relative = "" if each.largest is None else f" (relative {each.largest:.3g})"
        say(f"  point {each.index}: {_named(each)}{relative}")
    if len(differences) > _SHOWN_DIFFERENCES:
        say(f"  ... and {len(differences) - _SHOWN_DIFFERENCES} more in report.json")
    for cause in dict.fromkeys(cause for point in report.points for cause in point.causes):
        say(f"  not the same in all runs, and maybe why: {cause}")
    say(f"{_verdict(report)} Everything is in {settings.folder}/ (table.csv, report.json)")


def _verdict(report: Report) -> str:
    counts = f"{len(report.points)} points, {len(report.runs)} runs each"
    files = sum(point.files for point in report.points)
    metrics = sum(point.metrics for point in report.points)
    compared = f"{files} files and {metrics} metrics"
    if report.same:
        return f"The same: {counts}; {compared}, to the last bit."
    if report.agree:
        return f"Within the tolerance: {counts}; {compared}."
    failed = sum(point.succeeded < len(report.runs) for point in report.points)
    more = f", of which {failed} did not always succeed" if failed else ""
    return f"Not the same: {counts}{more}; {compared}."
