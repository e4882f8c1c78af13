"""Interleaved rounds, everybody once and everybody again: what else the machine does falls on all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from measure import machine
from measure.catalogue import SCALE, Entry
from measure.contender import Effort, Place
from measure.record import Failed, Measured, Record
from measure.servers import VERSIONS, servers
from measure.session import ContenderFailed, Session, adopt_orphans, nothing_left
from measure.work import throwaway

Plan = Sequence[tuple[Entry, Sequence[str]]]
_OWN_PYTHON = Path(sys.executable)
#: The least that one measurement may take before it is given up, and how many times its share.
_DEADLINE_S = 120.0
_DEADLINE_TIMES = 20.0
_SCALE_S = 3600.0
#: Workloads whose jobs are so long that few fit: with a dozen, the last one's end says more than the rate.
_LONGER = {"container": 5.0}


@dataclass(frozen=True, slots=True)
class Settings:
    """seconds: how long one measurement is to take. peers: the Python of their virtual environment."""

    rounds: int
    seconds: float
    processes: int
    peers: Path
    logs: Path
    options: dict[str, str] = field(default_factory=dict)

    def within_s(self, workload: str) -> float:
        return _SCALE_S if workload == SCALE else max(_DEADLINE_S, _DEADLINE_TIMES * self.seconds)


def take(plan: Plan, settings: Settings, say: Callable[[str], None]) -> Record:
    """Measure all of it. A contender that fails is noted, and left out from then on."""
    adopt_orphans()
    settings.logs.mkdir(parents=True, exist_ok=True)
    record = Record(machine=machine.shape())
    counts: dict[tuple[str, str], int] = {}
    for number in range(1, settings.rounds + 1):
        record.busy.append(round(machine.busy(), 2))
        for entry, workloads in plan:
            if any(failed.contender == entry.name for failed in record.failed):
                continue
            if number < settings.rounds:
                workloads = [each for each in workloads if each != SCALE]
            if not workloads:
                continue
            say(f"round {number} of {settings.rounds}: {entry.name} ({', '.join(workloads)})")
            with nothing_left():
                _attend(entry, workloads, number, settings, record, counts)
    record.servers = dict(VERSIONS)
    return record


def _attend(
    entry: Entry,
    workloads: Sequence[str],
    number: int,
    settings: Settings,
    record: Record,
    counts: dict[tuple[str, str], int],
) -> None:
    """One contender's turn, with servers and processes of its own."""
    at = "start"
    try:
        with (
            throwaway() as folder,
            servers(entry.servers) as urls,
            _session(entry, urls, folder, settings) as session,
        ):
            record.versions[entry.name] = session.start()
            for at in workloads:
                key = (entry.name, at)
                seconds = settings.seconds * _LONGER.get(at, 1.0)
                figures = session.measure(
                    at, Effort(seconds, counts.get(key)), settings.within_s(at)
                )
                # as many jobs in all rounds
                counts.setdefault(key, int(figures["count"]))
                record.measured.append(Measured(at, entry.name, number, figures))
            at = "stop"
            session.stop()
    except ContenderFailed as error:
        record.failed.append(Failed(at, entry.name, number, str(error)))


def _session(entry: Entry, urls: dict[str, str], folder: Path, settings: Settings) -> Session:
    broker = urls[entry.servers[0]] if entry.servers else ""
    place = Place(
        folder, settings.processes, {"broker": broker} if broker else {}, settings.options
    )
    # modules of peers make their connections when workers import them
    env = {"BENCH_BROKER": broker, "BENCH_RESULTS": urls.get("redis", "")}
    log = settings.logs / f"{entry.name.replace('/', '-')}.log"
    python = settings.peers if entry.peer else _OWN_PYTHON
    return Session(python, f"measure.{entry.where}", place, env, log)
