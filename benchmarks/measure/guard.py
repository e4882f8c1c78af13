"""Whether throughput and start-up are about where they should be: ratios to raw limits, with wide margins.

Absolute figures mean nothing on a machine that others share; what the machine could do in the same minute
does. A regression shows in every round, so the best round counts.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from measure.bounds import Figure
from measure.catalogue import LIMIT, OURS, choose
from measure.record import Record
from measure.rounds import Settings, take
from measure.servers import prefer_programs

_WORKLOADS = ["noop", "true", "startup"]
_WHO = [
    f"{OURS}/redis", f"{OURS}/zeromq", f"{OURS}/program",
    f"{LIMIT}/redis-hop", f"{LIMIT}/zeromq-echo", f"{LIMIT}/posix-spawn",
]  # fmt: skip
_ROUNDS, _SECONDS, _PROCESSES = 2, 0.7, 2


@dataclass(frozen=True, slots=True)
class Margin:
    """`ours` over `limit` is to be `least` or more, or `most` or less: far from what is usual."""

    ours: Figure
    limit: Figure
    least: float = 0.0
    most: float = float("inf")

    def ratios(self, record: Record) -> list[float]:
        mine, others = (
            record.by_round(each.workload, each.contender, each.name)
            for each in (self.ours, self.limit)
        )
        return [mine[number] / others[number] for number in mine.keys() & others.keys()]

    def holds(self, ratio: float) -> bool:
        return self.least <= ratio <= self.most


def _program(name: str) -> Figure:
    return Figure("startup", f"{OURS}/program", name)


#: Wide, a third of what is usual and less: they tell a step backwards from a busy machine.
MARGINS = (
    Margin(
        Figure("noop", f"{OURS}/redis", "per_s"),
        Figure("noop", f"{LIMIT}/redis-hop", "per_s"),
        least=0.05,
    ),
    Margin(
        Figure("noop", f"{OURS}/zeromq", "per_s"),
        Figure("noop", f"{LIMIT}/zeromq-echo", "per_s"),
        least=0.03,
    ),
    Margin(
        Figure("true", f"{OURS}/zeromq", "per_s"),
        Figure("true", f"{LIMIT}/posix-spawn", "per_s"),
        least=0.25,
    ),
    Margin(_program("help_ms"), _program("python_ms"), most=15.0),
    Margin(_program("worker_ready_ms"), _program("python_ms"), most=55.0),
    Margin(_program("run_over_ms"), _program("python_ms"), most=150.0),
)


def main() -> int:
    """0 when all margins hold."""
    prefer_programs()
    with tempfile.TemporaryDirectory(prefix="queue-runner-guard-") as logs:
        settings = Settings(_ROUNDS, _SECONDS, _PROCESSES, Path(sys.executable), Path(logs))
        record = take(choose(_WORKLOADS, _WHO), settings, lambda text: print(text, flush=True))
    lines = list(judged(record))
    for line, _ in lines:
        print(line)
    for failed in record.failed:
        print(f"{failed.contender}, {failed.workload}: {failed.error}")
    return 0 if all(held for _, held in lines) and not record.failed else 1


def judged(record: Record) -> Iterator[tuple[str, bool]]:
    """A line for each margin, and whether it holds; what was not measured does not."""
    for margin in MARGINS:
        ratios = margin.ratios(record)
        best = (max if margin.least else min)(ratios, default=None)
        held = best is not None and margin.holds(best)
        bound = f">= {margin.least:g}" if margin.least else f"<= {margin.most:g}"
        ours, limit = margin.ours, margin.limit
        yield (
            f"{'ok' if held else 'FAR OFF'}: {ours.workload}, {ours.contender}, {ours.name} over"
            f" {limit.contender}, {limit.name}: {_text(best)} ({bound})",
            held,
        )


def _text(ratio: float | None) -> str:
    return "not measured" if ratio is None else f"{ratio:.3g}"
