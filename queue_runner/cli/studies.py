"""`check` and `schema`: study files, without running anything."""

from __future__ import annotations

import dataclasses

import typer

from queue_runner.cli.app import app
from queue_runner.cli.options import Json, StudyFile, print_json


@app.command(
    epilog="Example: queue-runner check examples/cavity/study.yaml",
)
def check(
    study_file: StudyFile,
    as_json: Json = False,
    points: int = typer.Option(5, min=0, help="How many of the first points to show."),
) -> None:
    """Validate a study file, say how many jobs it makes, and show the first points. Runs nothing."""
    from queue_runner.cli.render import console
    from queue_runner.study import load_study

    study = load_study(study_file)
    with console(stderr=True).status("trying the points ..."):
        summary = study.check(points)
    if as_json:
        print_json(dataclasses.asdict(summary))
        return
    _print_summary(study_file.name, summary)


def _print_summary(name: str, summary: object) -> None:
    from queue_runner.cli.render import console, results_table
    from queue_runner.study import StudySummary

    assert isinstance(summary, StudySummary)
    out = console()
    left_out = summary.tried - summary.jobs
    rejected = f" ({left_out} of {summary.tried} points left out by `where`)" if left_out else ""
    jobs = f"{summary.jobs} jobs{rejected}"
    if summary.tried < summary.before:
        tried = f"only {summary.tried} of {summary.before} points were tried"
        jobs = f"at least {jobs}, and perhaps more: {tried}"
    if summary.open:
        jobs = f"open, for points of {', '.join(summary.open)}"
    out.print(f"{name}: study {summary.name}, kind {summary.kind}: {jobs}")
    if summary.points:
        out.print(results_table([dict(point) for point in summary.points]))
        if summary.jobs > len(summary.points):
            out.print(f"... and {summary.jobs - len(summary.points)} more")
    for warning in summary.warnings:
        out.print(f"warning: {warning}", style="yellow")


@app.command(epilog="Example: queue-runner schema > study.schema.json")
def schema() -> None:
    """Print the JSON Schema of study files, for editors that check and complete YAML."""
    from queue_runner.study import json_schema

    print_json(json_schema())
