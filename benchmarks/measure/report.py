"""What was measured, as markdown: the machine, a table for each workload, what must hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

from measure.bounds import Bound
from measure.catalogue import ENTRIES, LIMIT, OURS, WORKLOADS
from measure.record import Record

#: What a workload's table shows first, and by what it is sorted; the other figures follow.
_LOWER_IS_BETTER = ("_ms", "_mb", "_us")
_HIDDEN = ("count",)
_TITLES = {
    "noop": "noop: a Python function in a warm process",
    "true": "true: one process, `/bin/true`",
    "latency": "latency: one job at a time",
    "sweep": "sweep: 64 cavity cases of icoFoam",
    "mpi": "mpi: a kernel on two ranks",
    "container": "container: one container of `/bin/true`",
    "startup": "startup: the program itself",
    "scale": "scale: a million points",
}
_REMARKS = {entry.name: entry.remarks for entry in ENTRIES}


def write_table(record: Record, bounds: Sequence[Bound]) -> str:
    parts = [_head(record), *(_workload(record, each) for each in WORKLOADS), _bounds(bounds)]
    return "\n\n".join(part for part in [*parts, _failures(record)] if part) + "\n"


def _head(record: Record) -> str:
    machine, settings = record.machine, record.settings
    versions = {name: v for told in record.versions.values() for name, v in told.items()}
    busy = ", ".join(f"{each:g}" for each in record.busy)
    lines = [
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB,"
        f" {machine['system']}, Linux {machine['kernel']}, Python {machine['python']}.",
        f"{settings.get('rounds')} interleaved rounds of {settings.get('seconds')} s for each"
        f" measurement, {settings.get('processes')} worker processes. Cores that others used before each"
        f" round: {busy}.",
        f"Servers: {', '.join(record.servers.values()) or 'none'}; Redis with AOF, flushed every second"
        f" ({settings.get('servers')}). Work folders: {settings.get('work', 'on a disk')}.",
        "Versions: " + ", ".join(f"{name} {v}" for name, v in sorted(versions.items())) + ".",
    ]
    return "\n".join(lines)


def _workload(record: Record, workload: str) -> str:
    rows = list(record.contenders(workload))
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in _figures(record, workload, row)))
    if workload in ("startup", "scale"):
        return _turned(record, workload, rows, names)
    key = names[0]
    best_first = sorted(
        rows, key=lambda row: _middle(record, workload, row, key), reverse=not _lower(key)
    )
    table = _markdown(
        ["", *map(_heading, names), "lowest to highest", ""],
        [
            [
                f"**{row}**" if row.startswith(OURS) else row,
                *(_number(record.median(workload, row, name)) for name in names),
                _spread(record.by_round(workload, row, key).values()),
                "; ".join(_REMARKS.get(row, ())) or ("the limit" * row.startswith(LIMIT)),
            ]
            for row in best_first
        ],
    )
    return f"### {_TITLES[workload]}\n\n{table}"


def _turned(record: Record, workload: str, columns: Sequence[str], names: Sequence[str]) -> str:
    """A line for each figure."""
    lines = [
        [_heading(name), *(_number(record.median(workload, column, name)) for column in columns)]
        for name in names
    ]
    return f"### {_TITLES[workload]}\n\n" + _markdown(["", *columns], lines)


def _bounds(bounds: Sequence[Bound]) -> str:
    missing = [bound.what for bound in bounds if bound.holds is None]
    rows = [
        [
            bound.what,
            _number(bound.figure) + bound.unit * (bound.figure is not None),
            _number(bound.against) + bound.unit * (bound.against is not None),
            bound.whose,
            "" if bound.ratio is None else f"{bound.ratio:.3g}",
            f"{'>=' if bound.at_least else '<='} {bound.limit:.3g}",
            "yes" if bound.holds else "**no**",
        ]
        for bound in bounds
        if bound.holds is not None
    ]
    heads = ["", "ours", "against", "whose", "ratio", "bound", "holds"]
    table = _markdown(heads, rows) if rows else ""
    rest = f"Not measured: {'; '.join(missing)}." if missing else ""
    return "\n\n".join(part for part in ("### What must hold", table, rest) if part)


def _failures(record: Record) -> str:
    lines = [
        f"- {each.contender}, {each.workload}, round {each.round}: {each.error.splitlines()[0]}"
        for each in record.failed
    ]
    return "\n".join(["### Failed", "", *lines]) if lines else ""


def _figures(record: Record, workload: str, contender: str) -> Iterator[str]:
    for each in record.measured:
        if (each.workload, each.contender) == (workload, contender):
            yield from (name for name in each.figures if name not in _HIDDEN)


def _middle(record: Record, workload: str, contender: str, figure: str) -> float:
    value = record.median(workload, contender, figure)
    return 0.0 if value is None else value


def _lower(figure: str) -> bool:
    return figure.endswith(_LOWER_IS_BETTER)


def _heading(name: str) -> str:
    for end, unit in (("per_s", "per second"), ("_ms", ", ms"), ("_us", ", us"), ("_mb", ", MB")):
        if name.endswith(end):
            return f"{name.removesuffix(end).replace('_', ' ')}{unit}".strip()
    return name


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _spread(values: Iterable[float]) -> str:
    found = sorted(values)
    if len(found) < 2:
        return ""
    return f"{_number(found[0])} to {_number(found[-1])} ({median(_off(found)):.0%})"


def _off(values: Sequence[float]) -> Iterator[float]:
    """How far the rounds are from their median, as a part of it."""
    middle = median(values)
    return (abs(value - middle) / middle for value in values)


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Numbers to the right; what is named or said, to the left."""
    left = ("", "whose", "holds")
    lines = [heads, ["---" if head in left else "---:" for head in heads], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def put_into(
    page: Path, table: str, begin: str = "<!-- bench -->", end: str = "<!-- /bench -->"
) -> None:
    """Replace what stands between the two marks of a page."""
    before, mark, rest = page.read_text().partition(begin)
    _, closing, after = rest.partition(end)
    if not mark or not closing:
        raise ValueError(f"{page} has no {begin} ... {end}")
    page.write_text(f"{before}{begin}\n{table}{end}{after}")
