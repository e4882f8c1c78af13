"""Send a study of short jobs through brokers, with every daemon a process of its own.

    .venv/bin/python benchmarks/throughput/run.py --jobs 100000 redis rabbitmq zmq

`redis`, `rabbitmq` and `zmq` are throwaway servers; the URL of a server of yours will do, too. Prints, for
each broker: jobs per second from the start of the submission to the last result in the collector's database,
and at the start and the end of it; the peak memory of client, worker, collector and server; the CPU time in
microseconds that a job took of each of them, of the `function` in its warm processes, and of all (with
`--task true`, of the `spawner` that starts programs, and of the `programs` themselves); how long questions
take with all results there. With `--task pause` jobs wait for a fifth of a second: what a case costs
besides itself. Ends with an error unless every job is in the table exactly once.
`--json FILE` keeps the figures. It is the workload `scale` of `benchmarks/bench.py`, alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import machine
from measure.contender import Effort, Figures, Place
from measure.scale import Scale
from measure.servers import server
from measure.work import throwaway


def measure(url: str | None, task: str, jobs: int, cores: int) -> Figures:
    """url: None for a ZeroMQ server, which the benchmark starts itself."""
    with throwaway() as folder:
        broker = {"broker": url} if url else {}
        scale = Scale(Place(folder, cores, broker, {"task": task}))
        try:
            scale.start()
            return scale.measure("scale", Effort(0.0, jobs))
        finally:
            scale.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--task", choices=("noop", "true", "pause"), default="noop")
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    parser.add_argument("brokers", nargs="+", help="zmq, redis, rabbitmq, or the URL of a server")
    options = parser.parse_args()
    figures = []
    for name in options.brokers:
        with server(name) as url:
            measured = measure(url, options.task, options.jobs, options.cores)
        figures.append({"broker": name.partition(":")[0], **measured})
        print(json.dumps({key: _short(value) for key, value in figures[-1].items()}), flush=True)
    if options.json:
        told = {"machine": machine.shape(), "figures": figures}
        options.json.write_text(json.dumps(told, indent=2) + "\n")


def _short(value: object) -> object:
    return round(value, 1) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
