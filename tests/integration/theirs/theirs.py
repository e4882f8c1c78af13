"""What another package brings: a kind, a runtime and a broker adapter, as their authors would write them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from queue_runner.brokers import Broker, connect
from queue_runner.errors import JobError
from queue_runner.model import Job, Scalar
from queue_runner.study.kinds.base import StudyKind
from queue_runner.study.schema import Strict
from queue_runner.workers.kinds.base import Diagnosis, Kind, Step
from queue_runner.workers.runtimes.base import Outcome
from queue_runner.workers.runtimes.process import ProcessRuntime


class SumsSection(Strict):
    terms: list[str]
    limit: int = 100


class SumsStudy(StudyKind):
    """Adds up numbers with `expr`, one step for each."""

    Section = SumsSection

    def spec(self, section: SumsSection, names: Sequence[str]) -> Mapping[str, Any]:
        return {"terms": section.terms, "limit": section.limit}


class Sums(Kind):
    def prepare(self, job: Job, folder: Path) -> None:
        if not job.spec["terms"]:
            raise JobError("no-terms", "there is nothing to add up")
        (folder / "sum").write_text("0")

    def steps(self, job: Job, folder: Path) -> Sequence[Step]:
        script = 'sum=$(expr "$(cat sum)" + "$1"); echo "$sum" >sum; [ "$sum" -le "$2" ]'
        return [
            Step(
                f"add-{number}",
                ("sh", "-c", script, "sh", str(term), str(job.spec["limit"])),
                "log.sums",
            )
            for number, term in enumerate(job.spec["terms"], 1)
        ]

    def diagnose(self, job: Job, folder: Path, step: Step, log_tail: str) -> Diagnosis | None:
        return Diagnosis("over-limit", f"{step.name} brought the sum over {job.spec['limit']}")

    def metrics(self, job: Job, folder: Path) -> dict[str, Scalar]:
        return {"sum": int((folder / "sum").read_text())}

    def provenance(self, job: Job, folder: Path) -> dict[str, str]:
        return {"sums": "1.0"}


class Noted(ProcessRuntime):
    """Processes of the machine, and a note of each step."""

    def run(self, step: Step, job: Job, folder: Path, **rest: Any) -> Outcome:
        with (self.folder.parent / "notes").open("a") as notes:
            notes.write(f"{step.name}\n")
        return super().run(step, job, folder, **rest)

    def provenance(self, job: Job) -> dict[str, str]:
        return {"noted": "yes"}


def open_theirs(url: str) -> Broker:
    """The ZeroMQ server under another name."""
    return connect(re.sub("^theirs", "zmq", url))
