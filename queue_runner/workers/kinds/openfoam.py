"""Kind `openfoam`: assignments to a case's dictionaries, then its programs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from queue_runner.errors import JobError, MissingTool
from queue_runner.model import Job, Reason, Scalar
from queue_runner.workers import mpi
from queue_runner.workers.kinds.base import Diagnosis, Kind, Step
from queue_runner.workers.kinds.command import step_names
from queue_runner.workers.openfoam import fields, functions, locate, logs, provenance
from queue_runner.workers.openfoam.dictionaries import assign


class OpenFoamKind(Kind):
    def prepare(self, job: Job, folder: Path) -> None:
        for stale in folder.glob("processor[0-9]*"):
            shutil.rmtree(stale)
        assign(folder, job.spec.get("set") or [], must_exist=True)
        assign(folder, job.spec.get("add") or [], must_exist=False)
        if _ranks(job) > 1:
            _write_decomposition(folder, _ranks(job), job.spec.get("decompose"))

    def steps(self, job: Job, folder: Path) -> Sequence[Step]:
        try:
            env = {**locate.environment(), **(job.spec.get("env") or {})}
            launch = mpi.find("openmpi").argv(_ranks(job)) if _ranks(job) > 1 else ()
        except MissingTool as error:
            raise JobError(Reason.MISSING_PROGRAM, str(error)) from error
        plan = _plan(job, folder)
        names = step_names([argv[0] for argv, _ in plan])
        return [
            Step(name=name, argv=_argv(argv, parallel, launch, folder), log=f"log.{name}", env=env)
            for name, (argv, parallel) in zip(names, plan, strict=True)
        ]

    def diagnose(self, job: Job, folder: Path, step: Step, log_tail: str) -> Diagnosis | None:
        return logs.diagnose(step.name, log_tail, folder) or _in_its_logs(step, folder)

    def verify(self, job: Job, folder: Path, step: Step, log_tail: str) -> Diagnosis | None:
        return logs.not_a_number(step.name, log_tail) or _in_its_logs(step, folder)

    def metrics(self, job: Job, folder: Path) -> dict[str, Scalar]:
        asked = dict(job.measure.get("openfoam") or {})
        metrics: dict[str, Scalar] = {}
        if any(asked.get(name) for name in ("residuals", "time", "execution_time")):
            metrics.update(logs.read_log(folder / f"log.{_application(folder)}", asked))
        metrics.update(fields.measure_fields(folder, asked.get("fields") or {}))
        for function in asked.get("functions") or []:
            metrics.update(functions.last_line(folder, function))
        return metrics

    def provenance(self, job: Job, folder: Path) -> dict[str, str]:
        application = _application(folder)
        facts = {"application": application, "ranks": str(_ranks(job))}
        facts |= provenance.solver(folder / f"log.{application}")
        if _ranks(job) > 1:
            facts["decomposition"] = provenance.decomposition(folder)
            facts |= mpi.find("openmpi").provenance()
        return facts


def _in_its_logs(step: Step, folder: Path) -> Diagnosis | None:
    """A script such as Allrun goes on after a program of it has failed; the log of that one tells."""
    if not Path(step.argv[0]).is_relative_to(folder):
        return None
    for path in sorted(folder.glob("log.*"), key=lambda each: each.stat().st_mtime_ns):
        name, tail = path.name.removeprefix("log."), logs.tail(path)
        if found := logs.diagnose(name, tail, folder) or logs.not_a_number(name, tail):
            return found
    return None


def _ranks(job: Job) -> int:
    return int(job.spec.get("ranks") or 1)


def _application(folder: Path) -> str:
    from foamlib import FoamFile

    try:
        return str(FoamFile(folder / "system" / "controlDict")["application"])
    except Exception as error:
        raise JobError(
            Reason.PREPARE, f"system/controlDict names no application: {error!r}"
        ) from error


def _plan(job: Job, folder: Path) -> list[tuple[list[str], bool]]:
    """Programs in order, each with whether it runs on all ranks."""
    application, many = _application(folder), _ranks(job) > 1
    listed = job.spec.get("steps")
    if listed is None and (folder / "Allrun").is_file() and locate.run_functions():
        return [(["./Allrun"], False)]
    if listed is None:
        plan = [([name], False) for name in _preparing(folder)] + [([application], many)]
    else:
        plan = [
            (list(step["run"]), many and (step["parallel"] or step["run"][0] == application))
            for step in listed
        ]
    return _around(plan)


def _preparing(folder: Path) -> list[str]:
    names = []
    if (folder / "system" / "blockMeshDict").is_file() and not (
        folder / "constant" / "polyMesh" / "points"
    ).is_file():
        names.append("blockMesh")
    if (folder / "system" / "setFieldsDict").is_file():
        names.append("setFields")
    return names


def _around(plan: list[tuple[list[str], bool]]) -> list[tuple[list[str], bool]]:
    parallel = [index for index, (_, many) in enumerate(plan) if many]
    listed = {argv[0] for argv, _ in plan}
    if parallel and "reconstructPar" not in listed:
        plan.insert(parallel[-1] + 1, (["reconstructPar", "-latestTime"], False))
    if parallel and "decomposePar" not in listed:
        plan.insert(parallel[0], (["decomposePar"], False))
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


def _write_decomposition(folder: Path, ranks: int, asked: Mapping[str, Any] | None) -> None:
    path = folder / "system" / "decomposeParDict"
    if asked is None and path.is_file():
        assign(folder, [["system/decomposeParDict", "numberOfSubdomains", ranks]], must_exist=False)
        if "simple" not in path.read_text() and "hierarchical" not in path.read_text():
            return
    method = (asked or {}).get("method", "simple")
    coeffs = dict((asked or {}).get("coeffs") or {})
    if method in ("simple", "hierarchical"):
        coeffs = {"n": (asked or {}).get("n") or [ranks, 1, 1], "delta": 0.001, **coeffs}
        if method == "hierarchical":
            coeffs.setdefault("order", "xyz")
    path.write_text(
        "FoamFile { version 2.0; format ascii; class dictionary; object decomposeParDict; }\n"
    )
    wanted = {"numberOfSubdomains": ranks, "method": method}
    if coeffs:
        wanted[f"{method}Coeffs"] = coeffs
    assignments = [["system/decomposeParDict", key, value] for key, value in wanted.items()]
    assign(folder, assignments, must_exist=False)
