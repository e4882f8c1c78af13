"""Kind `openfoam`: assignments to a case's dictionaries, then its programs."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from queue_runner.errors import JobError, MissingTool
from queue_runner.model import Job, Reason, Scalar
from queue_runner.openfoam import cases
from queue_runner.workers import mpi
from queue_runner.workers.kinds.base import Checkpoint, Diagnosis, Kind, Step
from queue_runner.workers.kinds.command import step_names
from queue_runner.workers.openfoam import (
    checkpoints,
    decomposition,
    fields,
    functions,
    locate,
    logs,
    provenance,
)
from queue_runner.workers.openfoam.assignments import assign

_INITIAL = "0.orig"
_REGIONS = "constant/regionProperties"


class OpenFoamKind(Kind):
    def prepare(self, job: Job, folder: Path) -> None:
        for stale in folder.glob("processor*[0-9]*"):
            shutil.rmtree(stale)
        wanted = list(job.spec.get("set") or [])
        if job.spec.get("steps") is not None or not _has_allrun(folder):
            first = [each for each in wanted if each[0].startswith(f"{_INITIAL}/")]
            assign(folder, first, must_exist=True)
            wanted = [each for each in wanted if each not in first]
            _take_initial_fields(folder)
        assign(folder, wanted, must_exist=True)
        assign(folder, job.spec.get("add") or [], must_exist=False)
        if _ranks(job) > 1:
            decomposition.write(folder, _ranks(job), job.spec.get("decompose"))
        if _runs_application(job, folder):
            for name in cases.leftovers(folder, _control(folder)):
                shutil.rmtree(folder / name)

    def steps(self, job: Job, folder: Path) -> Sequence[Step]:
        return _steps(job, folder)

    def checkpoint(self, job: Job, folder: Path, done: Collection[str]) -> Checkpoint | None:
        application = _application(folder)
        if [argv[0] for argv, _ in _plan(job, folder)].count(application) != 1:
            return None
        time = checkpoints.last_complete(folder, ended=application in done)
        if time is None:
            return None
        return Checkpoint(f"time {time}", checkpoints.files(folder, time))

    def resume(self, job: Job, folder: Path) -> Sequence[Step]:
        application = _application(folder)
        time = checkpoints.last_complete(folder, ended=True)
        assert time is not None
        checkpoints.cut_log(folder / f"log.{application}", float(time))
        assign(folder, [[cases.CONTROL, "startFrom", "latestTime"]], must_exist=False)
        steps = _steps(job, folder)
        names = [step.name for step in steps]
        return steps[names.index(application) :]

    def diagnose(self, job: Job, folder: Path, step: Step, log_tail: str) -> Diagnosis | None:
        return logs.diagnose(step.name, log_tail, folder) or _in_its_logs(step, folder)

    def verify(self, job: Job, folder: Path, step: Step, log_tail: str) -> Diagnosis | None:
        return (
            logs.not_a_number(step.name, log_tail)
            or _in_its_logs(step, folder)
            or _nothing_to_run(step, folder)
        )

    def metrics(self, job: Job, folder: Path) -> dict[str, Scalar]:
        asked = dict(job.measure.get("openfoam") or {})
        metrics: dict[str, Scalar] = {}
        log = folder / f"log.{_application(folder)}"
        if any(asked.get(name) for name in ("residuals", "time", "execution_time")):
            metrics.update(logs.read_log(log, asked))
        if asked.get("fields"):
            metrics.update(fields.measure_fields(folder, asked["fields"], _began(folder, log)))
        for function in asked.get("functions") or []:
            metrics.update(functions.last_line(folder, function))
        return metrics

    def provenance(self, job: Job, folder: Path) -> dict[str, str]:
        application = _application(folder)
        facts = {"application": application, "ranks": str(_ranks(job))}
        facts |= provenance.solver(folder / f"log.{application}")
        if _ranks(job) > 1:
            facts["decomposition"] = decomposition.describe(folder)
            facts |= mpi.find("openmpi").provenance()
        return facts


def _steps(job: Job, folder: Path) -> list[Step]:
    try:
        env = {**locate.environment(), **(job.spec.get("env") or {})}
        ranks = _ranks(job)
        launch: tuple[str, ...] = ()
        if ranks > 1:
            launch = mpi.find("openmpi").argv(ranks, alone=mpi.alone(job, ranks))
    except MissingTool as error:
        raise JobError(Reason.MISSING_PROGRAM, str(error)) from error
    plan = _plan(job, folder)
    names = step_names([argv[0] for argv, _ in plan])
    return [
        Step(name=name, argv=_argv(argv, parallel, launch, folder), log=f"log.{name}", env=env)
        for name, (argv, parallel) in zip(names, plan, strict=True)
    ]


def _in_its_logs(step: Step, folder: Path) -> Diagnosis | None:
    """A script such as Allrun goes on after a program of it has failed; the log of that one tells."""
    if not Path(step.argv[0]).is_relative_to(folder):
        return None
    found_logs = [path for path in folder.glob("log.*") if path.is_file() and not path.is_symlink()]
    for path in sorted(found_logs, key=lambda each: each.stat().st_mtime_ns):
        name, tail = path.name.removeprefix("log."), logs.tail(path)
        if found := logs.diagnose(name, tail, folder) or logs.not_a_number(name, tail):
            return found
    return None


def _ranks(job: Job) -> int:
    return int(job.spec.get("ranks") or 1)


def _control(folder: Path) -> cases.Control:
    try:
        return cases.control(folder)
    except ValueError as error:
        raise JobError(Reason.PREPARE, str(error)) from error


def _application(folder: Path) -> str:
    name = _control(folder).application
    if name is None:
        raise JobError(Reason.PREPARE, f"{cases.CONTROL} names no application")
    return name


def _has_allrun(folder: Path) -> bool:
    return (folder / "Allrun").is_file() and locate.run_functions() is not None


def _take_initial_fields(folder: Path) -> None:
    """What the tutorials' scripts do first: `0` is made from `0.orig`."""
    if (folder / _INITIAL).is_dir() and not (folder / "0").exists():
        shutil.copytree(folder / _INITIAL, folder / "0")


def _runs_application(job: Job, folder: Path) -> bool:
    listed = job.spec.get("steps")
    if listed is None:
        return True
    application = _control(folder).application
    return any(application in step["run"] for step in listed)


def _began(folder: Path, log: Path) -> float | None:
    """The time before which there are no results; None where no solver went through time."""
    said = _control(folder)
    if said.starts_from == "latestTime" or not logs.took_a_step(log):
        return None
    return cases.start(folder, said)


def _nothing_to_run(step: Step, folder: Path) -> Diagnosis | None:
    """A solver that starts at its end says nothing of it, and exits with code 0."""
    log = folder / f"log.{_application(folder)}"
    if step.log != log.name and not Path(step.argv[0]).is_relative_to(folder):
        return None
    said = _control(folder)
    begin = cases.start(folder, said)
    if begin is None or said.end_time is None or begin < said.end_time or logs.took_a_step(log):
        return None
    return Diagnosis(
        Reason.PREPARE,
        f"{step.name} had nothing to do: it starts at time {begin:g} ({said.starts_from}) and ends at"
        f" {said.end_time:g}; the folder {begin:g} may be left of an earlier run, or endTime is too small",
    )


def _plan(job: Job, folder: Path) -> list[tuple[list[str], bool]]:
    """Programs in order, each with whether it runs on all ranks."""
    application, many = _application(folder), _ranks(job) > 1
    listed = job.spec.get("steps")
    if listed is None and _has_allrun(folder):
        return [(["./Allrun"], False)]
    if listed is None:
        plan = [([name], False) for name in _preparing(folder)] + [([application], many)]
    else:
        plan = [
            (list(step["run"]), many and (step["parallel"] or step["run"][0] == application))
            for step in listed
        ]
    return _around(plan, ["-allRegions"] if (folder / _REGIONS).is_file() else [])


def _preparing(folder: Path) -> list[str]:
    names = []
    if (folder / "system" / "blockMeshDict").is_file() and not (
        folder / "constant" / "polyMesh" / "points"
    ).is_file():
        names.append("blockMesh")
    if (folder / "system" / "setFieldsDict").is_file():
        names.append("setFields")
    return names


def _around(plan: list[tuple[list[str], bool]], regions: list[str]) -> list[tuple[list[str], bool]]:
    parallel = [index for index, (_, many) in enumerate(plan) if many]
    listed = {argv[0] for argv, _ in plan}
    if parallel and "reconstructPar" not in listed:
        # with zero: nothing written, or a solver without time, is no failure
        again = ["reconstructPar", "-latestTime", "-withZero", *regions]
        plan.insert(parallel[-1] + 1, (again, False))
    if parallel and "decomposePar" not in listed:
        plan.insert(parallel[0], (["decomposePar", *regions], False))
    return plan


def _argv(
    argv: list[str], parallel: bool, launch: tuple[str, ...], folder: Path
) -> tuple[str, ...]:
    # what has a slash is in the work folder, which is the same everywhere
    own = folder / argv[0] if "/" in argv[0] else None
    found = locate.program(argv[0]) if own is None else str(own) if own.is_file() else None
    if found is None:
        raise JobError(
            Reason.MISSING_PROGRAM,
            f"{argv[0]!r} is not installed with this OpenFOAM ({locate.describe()})",
            step=argv[0],
        )
    extra = [] if not parallel or "-parallel" in argv else ["-parallel"]
    return (*(launch if parallel else ()), found, *argv[1:], *extra)
