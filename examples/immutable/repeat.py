"""Run the study again and again, bare and in containers, and draw what stays the same and what does not.

    .venv/bin/python examples/immutable/repeat.py --runs 4 --to verified

Writes table.csv, plot.png and report.json to DIR/immutable; fails where two runs of a point differ in a bit.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from queue_runner.client.runtimes import choose_runtime
from queue_runner.client.verdict import PointReport, Report, VerifySettings
from queue_runner.client.verify import verify_here
from queue_runner.errors import QueueRunnerError
from queue_runner.model import StudyStatus
from queue_runner.study import Study, load_study

CHECK = "sum_of_mean_p"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--to", type=Path, default=Path("verified"))
    asked = parser.parse_args()
    study = load_study(Path(__file__).with_name("study.yaml"))
    settings = VerifySettings(asked.to / study.name, asked.runs, runtimes=places(study))
    print(
        f"{asked.runs} runs of {study.total} points, with runtime {', '.join(settings.runtimes)} in turn"
    )
    report = verify_here(study, settings, Shown(asked.runs))
    print()
    assert report is not None
    rows = list(table(report))
    write(report, rows, settings.folder)
    width = max(len(str(row["place"])) for row in rows)
    for row in rows:
        print(f"{row['parts']:>6}  {row['place']:{width}}  {CHECK} {row[CHECK]!r:20}  fields"
              f" {row['fingerprint'][:12]}  {row['seconds']:7.2f} s")  # fmt: skip
    verdict = "the same to the last bit" if report.same else "NOT the same; see report.json"
    print(f"runs of one point are {verdict}. Everything is in {settings.folder}/")
    return 0 if report.same else 1


def places(study: Study) -> tuple[str, ...]:
    """Where this machine can run it: bare, where it has OpenFOAM, and in containers, where an engine can."""
    bare = ("process",) if shutil.which("icoFoam") else ()
    contained = ("docker",) if choose_runtime(study, lambda text: None) == "docker" else ()
    return (*bare, *contained) or ("process",)


class Shown:
    """A line that says how far it is, each time that it changes."""

    def __init__(self, runs: int) -> None:
        self._runs, self._last = runs, ""

    def __call__(self, number: int, status: StudyStatus) -> None:
        text = f"run {number} of {self._runs}: {status.finished} of {status.total} jobs"
        if text != self._last:
            self._last = text
            print(f"\r{text}", end="" if sys.stdout.isatty() else "\n", flush=True)


def table(report: Report) -> Any:
    for point in report.points:
        for run, place in enumerate(report.runs):
            yield {
                "parts": parts(point),
                "run": run + 1,
                "place": place,
                CHECK: point.values[CHECK][run],
                "fingerprint": point.fingerprints[run],
                "seconds": point.seconds[run],
            }


def parts(point: PointReport) -> str:
    return f"{point.point['nx']} x {point.point['ny']}"


def write(report: Report, rows: list[dict[str, Any]], folder: Path) -> None:
    (folder / "report.json").write_text(json.dumps(report.record(), indent=2))
    with (folder / "table.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    draw(report, folder / "plot.png")


def draw(report: Report, path: Path) -> None:
    """The check value, which only the cut may change, above the time, which everything does."""
    reference = report.points[0].values[CHECK][0]
    runs = range(1, len(report.runs) + 1)
    figure, (values, times) = plt.subplots(2, 1, sharex=True, figsize=(7, 6), layout="constrained")
    for point in report.points:
        deviation = [(value - reference) / reference for value in point.values[CHECK]]  # type: ignore[operator]
        values.plot(runs, deviation, "o-", label=f"{parts(point)} parts")
        times.plot(runs, point.seconds, "o-", label=f"{parts(point)} parts")
    values.set_ylabel("relative difference of the\nsum of the mean pressure")
    times.set_ylabel("seconds")
    times.set_ylim(bottom=0)
    times.set_xticks(
        list(runs),
        [
            f"{n}\n{place.removeprefix('here, runtime ')}"
            for n, place in zip(runs, report.runs, strict=True)
        ],
    )
    values.legend()
    values.set_title("Runs of the same point: the result is the same, the time is not")
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except QueueRunnerError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
