"""What must hold, and whether it does: every row a figure, what it is held against, their ratio, yes or no.

Two contenders are compared round by round, and the median of the rounds' ratios decides: what else the
machine did falls on both of a round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from measure.catalogue import ACKS_BEFORE, BROKERS, ENTRIES, LIMIT, OURS, SCALE, Entry
from measure.record import Record

_UNITS = {"per_s": "/s", "mb": " MB", "ms": " ms"}
_TARGET = "target"


@dataclass(frozen=True, slots=True)
class Bound:
    """figure, against: in `unit`; ratio: of the first to the second; limit: of the ratio.

    holds: None where one of the two was not measured.
    """

    what: str
    unit: str
    figure: float | None
    against: float | None
    whose: str
    ratio: float | None
    at_least: bool
    limit: float

    @property
    def holds(self) -> bool | None:
        if self.ratio is None:
            return None
        return self.ratio >= self.limit if self.at_least else self.ratio <= self.limit


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of one contender at one workload."""

    workload: str
    contender: str
    name: str

    @property
    def unit(self) -> str:
        return next(unit for end, unit in _UNITS.items() if self.name.endswith(end))


def judge(record: Record) -> list[Bound]:
    """Every row of what must hold, in the order of the documentation."""
    return [bound for rule in _RULES for bound in rule(record)]


def _compared(
    record: Record, what: str, ours: Figure, theirs: Figure | None, at_least: bool, limit: float
) -> Bound:
    figure = _median(record, ours)
    if theirs is None:
        return Bound(what, ours.unit, figure, None, "not measured", None, at_least, limit)
    mine, others = _rounds(record, ours), _rounds(record, theirs)
    ratios = [mine[number] / others[number] for number in mine.keys() & others.keys()]
    ratio = median(ratios) if ratios else None
    against = _median(record, theirs)
    return Bound(what, ours.unit, figure, against, theirs.contender, ratio, at_least, limit)


def _below(record: Record, what: str, ours: Figure, target: float) -> Bound:
    figure = _median(record, ours)
    ratio = None if figure is None else figure / target
    return Bound(what, ours.unit, figure, target, _TARGET, ratio, False, 1.0)


def _median(record: Record, of: Figure) -> float | None:
    return record.median(of.workload, of.contender, of.name)


def _rounds(record: Record, of: Figure) -> dict[int, float]:
    return record.by_round(of.workload, of.contender, of.name)


def _best(
    record: Record,
    workload: str,
    name: str,
    keep: Callable[[Entry], bool] = lambda entry: True,
    best: Callable[[Iterable[float]], float] = max,
) -> Figure | None:
    """The peer with the best median, of those that `keep` keeps."""
    found = {}
    for entry in ENTRIES:
        value = record.median(workload, entry.name, name)
        if entry.group not in (OURS, LIMIT) and value is not None and keep(entry):
            found[value] = entry.name
    return Figure(workload, found[best(found)], name) if found else None


def _noop(record: Record) -> Iterator[Bound]:
    for broker, times in (("redis", 5.0), ("rabbitmq", 4.0)):
        ours = Figure("noop", f"{OURS}/{broker}", "per_s")
        for rest, before in ((" that acknowledges after the work", False), (", any", True)):

            def there(entry: Entry, broker: str = broker, before: bool = before) -> bool:
                return entry.broker == broker and (before or ACKS_BEFORE not in entry.remarks)

            best = _best(record, "noop", "per_s", there)
            what = f"noop, {broker}: best peer on it{rest}"
            yield _compared(record, what, ours, best, True, times)
    redis, zeromq = (Figure("noop", f"{OURS}/{each}", "per_s") for each in ("redis", "zeromq"))
    yield _compared(record, "noop, zeromq: as on Redis", zeromq, redis, True, 1.0)


def _true(record: Record) -> Iterator[Bound]:
    best = _best(record, "true", "per_s")
    spawn = Figure("true", f"{LIMIT}/posix-spawn", "per_s")
    for broker in BROKERS:
        ours = Figure("true", f"{OURS}/{broker}", "per_s")
        yield _compared(record, f"true, {broker}: best peer", ours, best, True, 2.0)
        yield _compared(record, f"true, {broker}: bare posix_spawn", ours, spawn, True, 0.8)


def _latency(record: Record) -> Iterator[Bound]:
    for broker in BROKERS:
        for name in ("p50_ms", "p99_ms"):
            ours = Figure("latency", f"{OURS}/{broker}", name)
            best = _best(record, "latency", name, best=min)
            what = f"latency, {broker}: {name[:3]} of the best peer"
            yield _compared(record, what, ours, best, False, 1.0)


def _container(record: Record) -> Iterator[Bound]:
    ours = Figure("container", f"{OURS}/docker", "per_s")
    engine = Figure("container", f"{LIMIT}/engine-api", "per_s")
    what = "container: the engine's own create, start, wait, remove, plus 5 %"
    yield _compared(record, what, ours, engine, True, 1 / 1.05)
    warm = Figure("container", f"{OURS}/docker-warm", "per_s")
    yield _compared(
        record, "container, warm: the engine's own, ten times", warm, engine, True, 10.0
    )


def _work(record: Record) -> Iterator[Bound]:
    for workload, bare in (("sweep", "parallel"), ("mpi", f"{LIMIT}/mpiexec")):
        theirs = Figure(workload, bare, "per_s")
        for broker in BROKERS:
            ours = Figure(workload, f"{OURS}/{broker}", "per_s")
            what = f"{workload}, {broker}: bare, by {bare.removeprefix(f'{LIMIT}/')}"
            yield _compared(record, what, ours, theirs, True, 0.98)


def _scale(record: Record) -> Iterator[Bound]:
    for broker in BROKERS:
        name = f"{OURS}/{broker}"
        start, end = (Figure(SCALE, name, f"{each}_per_s") for each in ("start", "end"))
        yield _compared(record, f"scale, {broker}: rate at the end", end, start, True, 0.9)
        for process in ("submit", "collector", "worker", "broker"):
            if process != "broker" or broker == "zeromq":
                memory = Figure(SCALE, name, f"{process}_mb")
                yield _below(record, f"scale, {broker}: memory of {process}", memory, 300.0)
        for question, ms in (("status", 50.0), ("page", 100.0)):
            what = f"scale, {broker}: {question} with all results"
            yield _below(record, what, Figure(SCALE, name, f"{question}_ms"), ms)


def _startup(record: Record) -> Iterator[Bound]:
    rows = (
        ("queue-runner --help", "help_ms", 150.0),
        ("worker ready", "worker_ready_ms", 1000.0),
        ("run of one job, over the job itself", "run_over_ms", 2000.0),
    )
    for what, name, target in rows:
        yield _below(
            record, f"start-up: {what}", Figure("startup", f"{OURS}/program", name), target
        )


_RULES: Sequence[Callable[[Record], Iterable[Bound]]] = (
    _noop, _true, _latency, _container, _work, _scale, _startup,
)  # fmt: skip
