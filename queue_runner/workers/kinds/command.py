"""Kind `command`: programs, one after another; short ones are started by a process of their own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from queue_runner.model import Job
from queue_runner.workers.kinds.base import Call, Kind, Step, is_short

_SPAWNER = (sys.executable, "-m", "queue_runner.workers.spawner")


class _Known(NamedTuple):
    """A call, and all of its job that it depends on."""

    fields: tuple[Any, ...]
    call: Call | None


class CommandKind(Kind):
    def __init__(self) -> None:
        # of the last job; replaced, never changed. Many jobs of a study have in common what is asked for here
        self._known = _Known((), None)

    def prepare(self, job: Job, folder: Path) -> None:
        """The bundle is all that a command needs."""

    def steps(self, job: Job, folder: Path) -> Sequence[Step]:
        env = dict(job.spec.get("env") or {})
        argvs = [tuple(argv) for argv in job.spec["steps"]]
        names = step_names([argv[0] for argv in argvs])
        return [
            Step(name=name, argv=argv, log=f"log.{name}", env=env)
            for name, argv in zip(names, argvs, strict=True)
        ]

    def call(self, job: Job) -> Call | None:
        """One program that is done when it has ended, and may be started by one process after another."""
        fields = (job.spec, job.resources, job.measure, job.keep, job.image)
        known = self._known
        if known.fields != fields:
            known = self._known = _Known(fields, self._call(job))
        return known.call

    def _call(self, job: Job) -> Call | None:
        if not is_short(job) or len(job.spec["steps"]) != 1:
            return None
        (step,) = self.steps(job, Path())
        args = {"argv": step.argv, "env": step.env}
        return Call(Step(step.name, _SPAWNER, step.log), step.name, args, alone=False)


def step_names(programs: Sequence[str]) -> list[str]:
    """Names for steps after their programs, numbered where a program runs more than once."""
    names: list[str] = []
    for program in programs:
        base = PurePath(program).name or "step"
        count = sum(name.partition("-")[0] == base or name == base for name in names)
        name = base if base not in names else f"{base}-{count + 1}"
        while name in names:
            count += 1
            name = f"{base}-{count + 1}"
        names.append(name)
    return names
