"""What a run has measured, as it is kept in JSON, and the questions that tables and bounds ask of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Measured:
    workload: str
    contender: str
    round: int
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Failed:
    workload: str
    contender: str
    round: int
    error: str


@dataclass(slots=True)
class Record:
    """busy: cores that others used before each round."""

    machine: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    servers: dict[str, str] = field(default_factory=dict)
    busy: list[float] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    def by_round(self, workload: str, contender: str, figure: str) -> dict[int, float]:
        return {
            each.round: each.figures[figure]
            for each in self.measured
            if (each.workload, each.contender) == (workload, contender) and figure in each.figures
        }

    def median(self, workload: str, contender: str, figure: str) -> float | None:
        values = self.by_round(workload, contender, figure).values()
        return median(values) if values else None

    def contenders(self, workload: str) -> Iterator[str]:
        """In the order they were measured in."""
        yield from dict.fromkeys(
            each.contender for each in self.measured if each.workload == workload
        )

    def write(self, path: Path, **more: object) -> None:
        path.write_text(json.dumps({**asdict(self), **more}, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        plain = json.loads(path.read_text())
        known = {name: plain[name] for name in cls.__dataclass_fields__}
        known["measured"] = [Measured(**each) for each in plain["measured"]]
        known["failed"] = [Failed(**each) for each in plain["failed"]]
        return cls(**known)
