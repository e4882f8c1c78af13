"""`show` and `rerun`: one job, where it ran and with what, and the same once more."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from queue_runner.cli.app import EXIT_JOBS_FAILED, EXIT_OK, app, say
from queue_runner.cli.options import CollectorUrl, Folder, Json, StoreUrl, TokenFile, print_json

if TYPE_CHECKING:
    from queue_runner.client.rerun import Difference
    from queue_runner.model import Job, Result

_RUNS = Path("runs")
_JobId = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, as in the results.")]


@app.command(epilog="Example: queue-runner show cavity-07af0013d8.0000003")
def show(
    job: _JobId,
    folder: Folder = _RUNS,
    collector: CollectorUrl = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """All that is known of a job: its point, result, provenance, and how to run it again."""
    from queue_runner.cli.source import open_client
    from queue_runner.client.rerun import job_of
    from queue_runner.wire import to_plain

    with open_client(folder, collector=collector, token_file=token_file) as client:
        result = client.result(job)
        attempts = client.records.attempts(job)
        made = job_of(client, result)
    again = _again(result, folder, collector)
    if as_json:
        plain = {
            "job": to_plain(made),
            "result": to_plain(result),
            "attempts": [to_plain(each) for each in attempts],
            "rerun": again,
        }
        print_json(plain)
        return
    for line in _lines(made, result, attempts):
        say(line)
    say(f"\nrun it again: {again}")


def _again(result: Result, folder: Path, collector: str | None) -> str:
    words = ["queue-runner", "rerun", result.job_id]
    if folder != _RUNS:
        words += ["--folder", str(folder)]
    if collector is not None:
        words += ["--collector", collector]
    return " ".join(words)


def _lines(job: Job, result: Result, attempts: list[Result]) -> Iterator[str]:
    yield f"{result.job_id}: {result.state.value}, attempt {result.attempt} of {len(attempts)}"
    if result.failure is not None:
        yield f"  {result.failure.reason}: {result.failure.message}"
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(result.started_at))
    yield f"  {job.kind} on {result.worker}, {started}"
    yield from _section("point", result.point)
    yield from _section("metrics", result.metrics)
    yield from _section("provenance", result.provenance)
    yield from _section("seconds", result.timings)
    files = {each.name: f"{each.size_bytes} bytes, {each.sha256}" for each in result.artifacts}
    yield from _section("kept", files)


def _section(title: str, values: Mapping[str, object]) -> Iterator[str]:
    if values:
        yield f"\n{title}"
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        yield f"  {name:{width}}  {value}"


@app.command(epilog="Example: queue-runner rerun cavity-07af0013d8.0000003 --to again")
def rerun(
    job: _JobId,
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Where its work folder stays.")
    ] = Path("again"),
    runtime: Annotated[
        str | None,
        typer.Option("--runtime", help="Where its processes live; default: as it was run."),
    ] = None,
    folder: Folder = _RUNS,
    collector: CollectorUrl = None,
    token_file: TokenFile = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> int:
    """Run a job again, here, and compare: metrics digit for digit, kept files byte for byte.

    Fails when anything differs. Nothing is reported to the collector.
    """
    from queue_runner.cli.source import open_client
    from queue_runner.client.rerun import differences, run_again
    from queue_runner.wire import to_plain
    from queue_runner.workers.runtimes.base import Stop

    with open_client(folder, collector=collector, token_file=token_file, store=store) as client:
        before = client.result(job)
        name = runtime or before.provenance.get("runtime", "process")
        now = run_again(client, before, to, name, Stop())
    unequal = list(differences(before, now))
    if as_json:
        found = [{"name": d.name, "before": d.before, "now": d.now} for d in unequal]
        print_json({"result": to_plain(now), "differences": found})
    else:
        _tell(now, unequal, to)
    return EXIT_JOBS_FAILED if unequal else EXIT_OK


def _tell(now: Result, unequal: list[Difference], to: Path) -> None:
    compared = len(now.metrics) + len(now.artifacts)
    if not unequal:
        say(f"{now.job_id}: {now.state.value}, the same again ({compared} values compared)")
    for each in unequal:
        say(f"{now.job_id}: {each.name} was {each.before}, is now {each.now}")
    if now.failure is not None:
        say(f"  {now.failure.reason}: {now.failure.message}")
    say(f"its work folder: {to / f'{now.job_id}.{now.attempt}'}")
