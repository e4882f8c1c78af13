"""`benchmarks/bench.py`: queue-runner and what its users could pick instead, side by side.

    benchmarks/bench.py                                        # all of it: the better part of an hour
    benchmarks/bench.py --workloads noop,true --only queue-runner,celery,limit --rounds 3 --json out.json

`make bench` sets up what it needs. Everybody runs on throwaway servers of their own with the same durability:
persistent messages, acknowledgement after the work (who does not is marked), Redis with its log flushed
every second, and every result known at the submitting side before the clock stops.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path

from measure.bounds import judge
from measure.catalogue import ENTRIES, WORKLOADS, NoSuch, choose
from measure.record import Record
from measure.report import put_into, write_table
from measure.rounds import Plan, Settings, take
from measure.servers import prefer_programs, way
from measure.work import in_memory

_ROOT = Path(__file__).parents[2]
_CACHE = _ROOT / ".cache" / "bench"
_DONE, _SOME_FAILED, _BAD_INPUT = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.read is not None:
        return _report(Record.read(options.read), options)
    try:
        plan = choose(options.workloads, options.only)
        _check(plan, options.peers)
    except NoSuch as error:
        print(f"bench: {error}", file=sys.stderr)
        return _BAD_INPUT
    prefer_programs()
    jobs = {} if options.jobs is None else {"jobs": str(options.jobs)}
    settings = Settings(
        options.rounds, options.seconds, options.processes, options.peers, _CACHE / "log", jobs
    )
    record = take(plan, settings, lambda text: print(text, file=sys.stderr, flush=True))
    record.settings = {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "processes": options.processes,
        "servers": way(),
        "work": "in memory" if in_memory() else "on a disk",
        **jobs,
    }
    return _report(record, options)


def _report(record: Record, options: argparse.Namespace) -> int:
    bounds = judge(record)
    table = write_table(record, bounds)
    print(table)
    if options.json is not None:
        told = [{**asdict(bound), "holds": bound.holds} for bound in bounds]
        record.write(options.json, bounds=told)
    if options.table is not None:
        options.table.write_text(table)
    if options.plot is not None:
        from measure.plot import draw

        draw(record, options.plot)
    if options.into is not None:
        put_into(options.into, table)
    return _SOME_FAILED if record.failed else _DONE


def _check(plan: Plan, peers: Path) -> None:
    """Raises `NoSuch` for what is not there, before anything has been measured."""
    from shutil import which

    if not plan:
        raise NoSuch("nobody who was asked for does what was asked for")
    if any(entry.peer for entry, _ in plan) and not peers.exists():
        raise NoSuch(f"no {peers}: `scripts/bench-peers` makes the peers' virtual environment")
    missing = {name for entry, _ in plan for name in entry.programs if which(name) is None}
    if missing:
        raise NoSuch(
            f"not on PATH: {', '.join(sorted(missing))}; `scripts/with-bench` installs them"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Workloads: {', '.join(WORKLOADS)}.\nWho: "
        + ", ".join(dict.fromkeys(entry.name for entry in ENTRIES)),
    )
    every = list(WORKLOADS)
    parser.add_argument("--workloads", type=_names, default=every, help="names, with commas")
    parser.add_argument(
        "--only", type=_names, default=[], help="who: full names, or before the slash"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--jobs", type=int, help="of workload scale; default: 1,000,000")
    parser.add_argument("--peers", type=Path, default=_CACHE / "venv" / "bin" / "python",
                        help="the Python that has the peers")  # fmt: skip
    parser.add_argument("--json", type=Path, help="keep all figures here")
    parser.add_argument("--table", type=Path, help="write the tables here, too")
    parser.add_argument("--plot", type=Path, help="draw the rates here (PNG)")
    parser.add_argument("--into", type=Path, help="a page with <!-- bench --> marks for the tables")
    parser.add_argument("--read", type=Path, help="measure nothing: report a JSON of before")
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
