"""`add`: points for a study that is open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from queue_runner.cli.app import EXIT_JOBS_FAILED, EXIT_OK, app, say
from queue_runner.cli.options import (
    Broker,
    CollectorUrl,
    Json,
    KeysFile,
    TokenFile,
    print_json,
    read_token,
    text_of,
)
from queue_runner.errors import FixThis
from queue_runner.model import Scalar

_Study = Annotated[str, typer.Argument(metavar="STUDY", help="A study's id or name.")]
_Values = Annotated[
    list[str] | None, typer.Argument(metavar="NAME=VALUE...", help="One point: a value for each.")
]


@app.command(epilog="Example: queue-runner add nozzle angle=12.5 length=0.3 --wait --json")
def add(
    study: _Study,
    values: _Values = None,
    points: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV file: its first row names the parameters."),
    ] = None,
    broker: Broker = None,
    collector: CollectorUrl = None,
    token_file: TokenFile = None,
    keys_file: KeysFile = None,
    wait: bool = typer.Option(False, "--wait", help="Wait for the results, and show them."),
    as_json: Json = False,
) -> int:
    """Add points to a study that is open; each becomes a job. The same point again is another job."""
    from queue_runner.client.client import Client
    from queue_runner.tables import flatten

    wanted = [*_of_words(values or []), *_of_file(points)]
    if not wanted:
        raise FixThis("say which point, such as nu=0.01 speed=2, or --points FILE.csv")
    with Client(
        broker, collector=collector, token=read_token(token_file), keys_file=text_of(keys_file)
    ) as client:
        handle = client.handle(study)
        jobs = handle.add(*wanted)
        if not wait:
            _say_jobs(handle.id, jobs, as_json=as_json)
            return EXIT_OK
        results = sorted((handle.next_result() for _ in jobs), key=lambda result: result.index)
        parameters = handle.record().parameters
    rows = [flatten(result, parameters) for result in results]
    if as_json:
        print_json([dict(row) for row in rows])
    else:
        from queue_runner.cli.render import console, results_table

        console().print(results_table(rows))
    failed = any(result.failure is not None for result in results)
    return EXIT_JOBS_FAILED if failed else EXIT_OK


def _say_jobs(study: str, jobs: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"study": study, "jobs": jobs})
        return
    which = jobs[0] if len(jobs) == 1 else f"{jobs[0]} to {jobs[-1]}"
    say(f"{study}: {len(jobs)} added: {which}")


def _of_words(words: list[str]) -> list[dict[str, Scalar]]:
    from queue_runner.study.rows import value_of

    point: dict[str, Scalar] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise FixThis(f"{word!r}: expected NAME=VALUE, such as nu=0.01")
        if name in point:
            raise FixThis(f"{name} is given twice")
        point[name] = value_of(text, name)
    return [point] if point else []


def _of_file(file: Path | None) -> list[dict[str, Scalar]]:
    from queue_runner.study.rows import read_csv

    if file is None:
        return []
    table: dict[str, Any] = read_csv(file)
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
