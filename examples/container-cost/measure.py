"""What a container costs an MPI program: the same programs bare and in containers, in turn, for some rounds.

    .venv/bin/python examples/container-cost/measure.py --rounds 5 --to cost

Needs mpicc, mpiexec and a Docker engine that has queue-runner/mpi (make images); with Debian's hpcc
installed it measures the HPC Challenge, too. Writes table.csv and plot.png to DIR.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from queue_runner import Study, run
from queue_runner.errors import FixThis, QueueRunnerError
from queue_runner.images.build import Context, build
from queue_runner.images.engine import open_engine

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "workers/mpi/kernels"
IMAGE = "queue-runner/hpcc:latest"
#: In a container no rank may read another's memory (CMA, a privilege): messages are copied twice.
NO_CMA = {"OMPI_MCA_btl_vader_single_copy_mechanism": "none"}
#: Runtime and environment by place; each round goes through them, every second one backwards.
PLACES = {"bare": ("process", {}), "bare, no CMA": ("process", NO_CMA), "container": ("docker", {})}

#: Program and options by what they are for; each prints `name value unit`.
POINTS = [
    ["pingpong", "--bytes", "8"],
    ["pingpong", "--bytes", "1048576"],
    ["allreduce", "--count", "1024"],
    ["heat", "--cells", "128"],
    ["triad", "--elements", "10000000"],
]
#: Metrics whose smaller value is the better one; of all others the larger.
SMALLER = ("_us", "_usec")
#: By point: the metrics that say something there.
TELLING = [["latency_us"], ["bandwidth_MBps"], ["allreduce_us"], ["updates_Mps"], ["triad_MBps"]]
HPCC = ["HPL_Tflops", "PTRANS_GBs", "MPIRandomAccess_GUPs", "StarSTREAM_Triad", "MPIFFT_Gflops",
        "StarDGEMM_Gflops", "MaxPingPongLatency_usec", "MaxPingPongBandwidth_GBytes"]  # fmt: skip

#: Where hpccinf.txt has the size of its matrices.
_SIZE_LINE = 5

#: Values by metric and place, one for each round.
Values = dict[str, dict[str, list[float]]]


def kernels(name: str, env: dict[str, str], **place: str) -> Study:
    names = sorted({metric for each in TELLING for metric in each})
    return Study(
        name=name,
        kind="mpi",
        folder=KERNELS,
        points=[dict(zip(("program", "option", "value"), each, strict=True)) for each in POINTS],
        mpi={
            "files": ".",
            "build": [["make", "{program}"]],
            "program": "./{program}",
            "args": ["{option}", "{value}"],
            "ranks": 2,
            "env": env,
        },
        measure={"log": {m: {"pattern": rf"^{m} (\S+)", "optional": True} for m in names}},
        resources={"wall_time": "5 min"},
        **place,
    )


def hpcc_input(size: int, folder: Path) -> Path:
    """A folder with the input of the HPC Challenge for matrices of size x size; returns `folder`."""
    lines = (HERE / "hpccinf.txt").read_text().splitlines(keepends=True)
    lines[_SIZE_LINE] = f"{size}         Ns\n"
    (folder / "hpcc").mkdir(exist_ok=True)
    (folder / "hpcc/hpccinf.txt").write_text("".join(lines))
    return folder


def hpcc(name: str, env: dict[str, str], folder: Path, **place: str) -> Study:
    file = "hpccoutf.txt"
    return Study(
        name=name,
        kind="mpi",
        folder=folder,
        points=[{"input": "hpccinf.txt"}],
        mpi={"files": "hpcc", "program": "hpcc", "ranks": 2, "env": env},
        measure={"log": {m: {"pattern": rf"^{m}=(\S+)", "file": file} for m in HPCC}},
        resources={"wall_time": "10 min"},
        **place,
    )


def measure(rounds: int, challenge: Path | None, folder: Path) -> Values:
    values: Values = defaultdict(lambda: defaultdict(list))
    for number in range(1, rounds + 1):
        places = list(PLACES.items())
        for place, (runtime, env) in places if number % 2 else reversed(places):
            print(f"round {number} of {rounds}: {place}", file=sys.stderr, flush=True)
            stem = f"cost-{number}-{''.join(letter for letter in place if letter.isalnum())}"
            image = {"image": IMAGE} if runtime == "docker" else {}
            rows = results(kernels(f"{stem}-kernels", env, **image), runtime, folder)
            for row, names in zip(rows, TELLING, strict=True):
                for name in names:
                    values[name][place].append(float(row[name]))
            if challenge is not None:
                (row,) = results(hpcc(f"{stem}-hpcc", env, challenge, **image), runtime, folder)
                for name in HPCC:
                    values[name][place].append(float(row[name]))
    return values


def results(study: Study, runtime: str, folder: Path) -> list[dict[str, Any]]:
    handle = run(study, folder, cores=2, runtime=runtime)
    rows = [dict(row) for row in handle.rows()]
    for row in rows:
        if row["state"] != "succeeded":
            raise FixThis(
                f"{row['job']}: {row['reason']}; queue-runner logs {row['job']} --folder {folder}"
            )
    return rows


# -- what came of it -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    """In per cent, of a place against bare: how much slower, of the rounds' pairs. Below 0: faster."""

    metric: str
    place: str
    median: float
    least: float
    most: float


def costs(values: Values) -> Iterator[Cost]:
    for metric, by_place in values.items():
        for place in list(PLACES)[1:]:
            pairs = zip(by_place["bare"], by_place[place], strict=True)
            slower = [cost(metric, bare, other) for bare, other in pairs]
            yield Cost(metric, place, statistics.median(slower), min(slower), max(slower))
        # bare against bare, one round against the next: what the machine does by itself
        ours = by_place["bare"]
        noise = [cost(metric, a, b) for a, b in pairwise(ours)] or [0.0]
        yield Cost(metric, "noise", statistics.median(noise), min(noise), max(noise))


def cost(metric: str, bare: float, other: float) -> float:
    ratio = other / bare if metric.endswith(SMALLER) else bare / other
    return 100 * (ratio - 1)


def write(values: Values, found: list[Cost], folder: Path) -> None:
    with (folder / "table.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["metric", *PLACES, "place", "slower_%", "least_%", "most_%"])
        for each in found:
            medians = [statistics.median(values[each.metric][place]) for place in PLACES]
            figures = [round(value, 3) for value in (each.median, each.least, each.most)]
            writer.writerow([each.metric, *medians, each.place, *figures])
    draw(found, folder / "plot.png")


def draw(found: list[Cost], path: Path) -> None:
    metrics = list(dict.fromkeys(each.metric for each in found))
    figure, axes = plt.subplots(figsize=(8, 1.5 + 0.55 * len(metrics)), layout="constrained")
    for shift, place in zip((-0.22, 0.0, 0.22), ("noise", *list(PLACES)[1:]), strict=True):
        mine = [each for each in found if each.place == place]
        rows = [metrics.index(each.metric) + shift for each in mine]
        errors = [[e.median - e.least for e in mine], [e.most - e.median for e in mine]]
        axes.errorbar([e.median for e in mine], rows, xerr=errors, fmt="o", capsize=3,
                      label="bare, next round" if place == "noise" else place)  # fmt: skip
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=10)
    axes.set_yticks(range(len(metrics)), metrics)
    axes.invert_yaxis()
    axes.set_xlabel("% slower than bare in the same round: median, least and most of all rounds")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def show(found: list[Cost]) -> None:
    width = max(len(each.metric) for each in found)
    print(f"{'':{width}}  {'% slower than bare':>20}  of all rounds")
    for each in found:
        name = "bare, next round" if each.place == "noise" else each.place
        print(f"{each.metric:{width}}  {name:16} {each.median:+8.1f}"
              f"   {each.least:+.1f} to {each.most:+.1f}")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=2000, help="of the HPC Challenge's matrices")
    parser.add_argument("--to", type=Path, default=Path("cost"))
    asked = parser.parse_args()
    if missing := [name for name in ("make", "mpicc", "mpiexec") if not shutil.which(name)]:
        raise FixThis(
            f"not installed: {', '.join(missing)} (apt-get install openmpi-bin libopenmpi-dev make gcc)"
        )
    with open_engine(timeout_s=600.0) as client:
        files = {"Dockerfile": (HERE / "Dockerfile").read_bytes()}
        image = build(client, Context(IMAGE, {"BASE": "queue-runner/mpi:latest"}, files), print)
    os.environ.setdefault("OMPI_MCA_rmaps_base_oversubscribe", "1")
    with_hpcc = shutil.which("hpcc") is not None
    if not with_hpcc:
        print("without the HPC Challenge: hpcc is not installed here (apt-get install hpcc)")
    asked.to.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(asked.to / "runs", ignore_errors=True)
    challenge = hpcc_input(asked.size, asked.to) if with_hpcc else None
    values = measure(asked.rounds, challenge, asked.to / "runs")
    found = list(costs(values))
    write(values, found, asked.to)
    show(found)
    print(
        f"{asked.rounds} rounds; image {image}. Everything is in {asked.to}/ (table.csv, plot.png)"
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except QueueRunnerError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
