"""Send jobs one at a time through brokers, and tell where each spends its time.

    .venv/bin/python benchmarks/latency/run.py --jobs 200 redis zmq rabbitmq
    .venv/bin/python benchmarks/latency/run.py --jobs 200 --open redis zmq rabbitmq

`redis`, `rabbitmq` and `zmq` are throwaway servers; the URL of a server of yours will do, too. Prints a
table of the legs of a *noop* job's way, from the call of `submit` to its result at the client, or with
--open from that of `evaluate`: the median of each, in milliseconds; of what is done beside it; and the CPU
time that each process took for one. Every daemon is a process of its own, and marks when the job comes past
a few of its functions, which are wrapped for this only. Medians do not add up to `all`, which is the median
of the whole.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure.alone import Alone
from measure.contender import Effort, Figures, Place
from measure.legs import BESIDE, OPEN_BESIDE, OPEN_WAY, WAY, Leg
from measure.servers import server
from measure.work import throwaway


def measure(url: str | None, jobs: int, cores: int, open: bool) -> Figures:
    """url: None for a ZeroMQ server, which the benchmark starts itself."""
    with throwaway() as folder:
        alone = Alone(Place(folder, cores, {"broker": url} if url else {}), open=open)
        try:
            alone.start()
            return alone.measure("latency", Effort(0.0, jobs))
        finally:
            alone.stop()


def table(
    measured: Mapping[str, Figures], way: Sequence[Leg], beside: Sequence[Leg]
) -> Iterator[str]:
    """Lines of Markdown."""
    yield f"| ms, median | {' | '.join(measured)} |"
    yield f"|---|{'---:|' * len(measured)}"
    for leg in way:
        yield _line(leg.what, measured)
    yield _line("all", measured, "**all**")
    for leg in beside:
        yield _line(leg.what, measured, f"*beside:* {leg.what}")
    for name in ("client", "server", "worker", "function", "collector", "all"):
        yield _line(f"{name}_cpu", measured, f"*CPU time:* {name}")


def _line(what: str, measured: Mapping[str, Figures], shown: str = "") -> str:
    figures = [f"{each[what]:.2f}" if what in each else "" for each in measured.values()]
    return f"| {shown or what} | {' | '.join(figures)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--open", action="store_true", help="points of a study that stays open")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("brokers", nargs="+", help="zmq, redis, rabbitmq, or the URL of a server")
    options = parser.parse_args()
    measured: dict[str, Figures] = {}
    for name in options.brokers:
        with server(name) as url:
            measured[name.partition(":")[0]] = measure(
                url, options.jobs, options.cores, options.open
            )
    legs = (OPEN_WAY, OPEN_BESIDE) if options.open else (WAY, BESIDE)
    print("\n".join(table(measured, *legs)))


if __name__ == "__main__":
    main()
