"""Mixed jobs on each broker for as long as it is told, while daemons and servers are killed and frozen.

    .venv/bin/python -m benchmarks.soak.run --seconds 3600 --out benchmarks/results rabbitmq redis zeromq

Ends with 1 where a job was lost or counted twice, or where memory or open files clearly grow.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import uuid
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.soak.samples import Sampler, fits
from tests.faults.moments import SEED, VARIABLE
from tests.faults.rig import Rig, rig
from tests.faults.servers import SERVERS, fault_server
from tests.faults.sweep import Sweep
from tests.faults.verdict import Expected, check
from tests.integration.system import eventually

#: Name, kind, jobs, and the seconds of the shortest and the longest.
_MIX = (
    ("shell", "command", 40, 0.0, 0.4),
    ("calls", "python", 40, 0.0, 0.3),
    ("long", "command", 4, 4.0, 9.0),
)
#: Killed, stopped and frozen; the worker `steady` and its memory are left alone.
_VICTIMS = ("one", "two")
_FAULTS = ("kill", "drain", "freeze", "collector", "server-stop", "server-kill")
#: Servers of others: what they take within minutes is no leak of ours.
_THEIRS = ("rabbitmq", "redis")
#: Sweeps that wait or run at once.
_AT_ONCE = 4
_PAUSE_S = (3.0, 8.0)
_ALL_S = 300.0
#: More attempts than a job has workers killed under it; it would be given up as what kills them.
_RETRIES = 100


class Soak:
    def __init__(self, system: Rig, seconds: float) -> None:
        self._system, self._seconds = system, seconds
        self._random = random.Random(f"{SEED} soak {system.server.name}")
        self._sweeps: list[Sweep] = []
        self._open: list[Sweep] = []
        self.faults: dict[str, int] = dict.fromkeys(_FAULTS, 0)

    def run(self) -> list[Sweep]:
        system = self._system
        system.start_collector()
        self._keep_busy()
        for name in ("steady", *_VICTIMS):
            system.start_worker(name)
            system.await_worker(name)
        end = time.monotonic() + self._seconds
        next_fault = time.monotonic() + self._random.uniform(*_PAUSE_S)
        while time.monotonic() < end:
            self._keep_busy()
            if time.monotonic() >= next_fault:
                self._fault(self._random.choice(_FAULTS))
                next_fault = time.monotonic() + self._random.uniform(*_PAUSE_S)
            time.sleep(0.2)
        for sweep in self._sweeps:
            eventually(partial(self._is_over, sweep), _ALL_S)
        return self._sweeps

    def _is_over(self, sweep: Sweep) -> bool:
        return self._system.finished(sweep) >= sweep.jobs

    def _keep_busy(self) -> None:
        self._open = [each for each in self._open if not self._is_over(each)]
        if len(self._open) < _AT_ONCE:
            name, kind, jobs, shortest, longest = _MIX[len(self._sweeps) % len(_MIX)]
            sweep = self._system.submit(
                f"{name}{len(self._sweeps)}", jobs=jobs, kind=kind,
                shortest_s=shortest, longest_s=longest, retries=_RETRIES,
            )  # fmt: skip
            self._sweeps.append(sweep)
            self._open.append(sweep)

    def _fault(self, what: str) -> None:
        system, victim = self._system, self._random.choice(_VICTIMS)
        self.faults[what] += 1
        if what in ("kill", "drain"):
            getattr(system, what)(victim)
            system.start_worker(victim)
        elif what == "freeze":
            system.freeze(victim)
            time.sleep(self._random.uniform(0.5, 8.0))
            system.thaw(victim)
        elif what == "collector":
            system.kill("collector")
            system.start_collector()
        else:
            (system.server.stop if what == "server-stop" else system.server.kill)()
            system.server.start()


def soak(name: str, seconds: float) -> dict[str, Any]:
    """One broker; its record."""
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        fault_server(SERVERS[name]) as server,
        rig(Path(folder), server, f"soak-{uuid.uuid4().hex[:8]}") as system,
    ):
        work = Soak(system, seconds)
        with Sampler(system) as sampler:
            sweeps = work.run()
        wrong = list(_wrong(system, sweeps, sum(work.faults.values())))
        lost = sum(sweep.jobs - system.finished(sweep) for sweep in sweeps)
        executions = sum(sum(sweep.executions("begin").values()) for sweep in sweeps)
        system.stop()
        system.await_nothing_left()
    return {
        "broker": name,
        "seconds": seconds,
        "jobs": sum(sweep.jobs for sweep in sweeps),
        "lost": lost,
        "wrong": wrong,
        "executions": executions,
        "faults": work.faults,
        "daemons": fits(sampler.samples),
    }


def _wrong(system: Rig, sweeps: list[Sweep], faults: int) -> Any:
    """What is not as promised of the records: duplicates above all."""
    for sweep in sweeps:
        try:
            check(system.records, sweep, Expected(lost=faults), exact=system.server.exact)
        except AssertionError as error:
            yield f"{sweep.name}: {error}"


def _table(records: list[dict[str, Any]]) -> str:
    lines = [
        "| broker | seconds | jobs | lost | wrong | executions | faults"
        " | daemon | MiB | MiB/h | open files/h |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        about = [record[key] for key in ("broker", "seconds", "jobs", "lost")]
        about += [len(record["wrong"]), record["executions"], sum(record["faults"].values())]
        for daemon in record["daemons"]:
            rss, files = daemon["rss_mib_per_h"], daemon["files_per_h"]
            row = [
                *about, daemon["daemon"], f"{daemon['rss_mib']:.0f}",
                f"{rss[0]:.1f} ± {rss[1]:.1f}", f"{files[0]:.1f} ± {files[1]:.1f}",
            ]  # fmt: skip
            lines.append("| " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="of all brokers together")
    parser.add_argument("--out", type=Path, help="a folder for soak-*.json and soak-*.md")
    parser.add_argument("brokers", nargs="*", default=sorted(SERVERS))
    asked = parser.parse_args()
    print(f"to have the same faults again: {VARIABLE}={SEED}", flush=True)
    records = [soak(name, asked.seconds / len(asked.brokers)) for name in asked.brokers]
    print(_table(records))
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        stem = asked.out / time.strftime("soak-%Y%m%d-%H%M%S")
        text = json.dumps({"seed": SEED, "records": records}, indent=1)
        stem.with_suffix(".json").write_text(text + "\n")
        stem.with_suffix(".md").write_text(_table(records))
    bad = [line for record in records for line in record["wrong"]]
    bad += [f"{r['broker']}: {r['lost']} jobs lost" for r in records if r["lost"]]
    bad += [
        f"{record['broker']}: {daemon['daemon']} grows: {daemon}"
        for record in records
        for daemon in record["daemons"]
        if daemon["grows"] and daemon["daemon"] not in _THEIRS
    ]
    print("\n".join(bad) or "nothing lost, nothing counted twice, nothing that clearly grows")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
