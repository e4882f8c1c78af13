"""Kind `mpi`: a program on several ranks, built once per worker and version of its files."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from queue_runner.errors import JobError, MissingTool
from queue_runner.model import Job, Reason
from queue_runner.workers import mpi
from queue_runner.workers.kinds.base import Diagnosis, Kind, Step
from queue_runner.workers.site import HOST, current

_BUILD_LOG = "log.build"
_BUILD = "build"
#: How gcc and clang say it.
_NO_HEADERS = re.compile(r"mpi\.h:? .*not found|mpi\.h: No such file")
#: Beside the work folders of a worker, and gone with them.
_CACHE = "build-cache"


class MpiKind(Kind):
    def prepare(self, job: Job, folder: Path) -> None:
        if job.spec.get("build"):
            with suppress(FileNotFoundError):
                shutil.copytree(_built(job, folder, _found()), folder, dirs_exist_ok=True)

    def steps(self, job: Job, folder: Path) -> Sequence[Step]:
        found = _found(job, folder)
        spec = job.spec
        ranks, extra = int(spec["ranks"]), tuple(spec.get("mpiexec_args") or ())
        argv = found.argv(ranks, extra, alone=mpi.alone(job, ranks))
        env = {**found.environment(), **(spec.get("env") or {})}
        program = (*argv, spec["program"], *spec.get("args", ()))
        run = Step(name="mpiexec", argv=program, log="log.mpiexec", env=env)
        if not spec.get("build") or _built(job, folder, found).is_dir():
            return [run]
        return [*_build_steps(spec["build"], env), run]

    def verify(self, job: Job, folder: Path, step: Step, log_tail: str) -> Diagnosis | None:
        if step.name != _last_build(job):
            return None
        found = _found()
        linked = mpi.linked(folder / job.spec["program"])
        if not found.runs(linked):
            return Diagnosis(Reason.PREPARE, f"build: {_mismatch(job, linked, found)}")
        _remember(_built(job, folder, found), folder)
        return None

    def diagnose(self, job: Job, folder: Path, step: Step, log_tail: str) -> Diagnosis | None:
        if step.log != _BUILD_LOG:
            return None
        last = "\n".join(log_tail.splitlines()[-10:])
        if _NO_HEADERS.search(last):
            last += f"\nThis MPI cannot compile: {mpi.HINT}"
        return Diagnosis(Reason.PREPARE, f"build: {' '.join(step.argv)} failed:\n{last}")

    def provenance(self, job: Job, folder: Path) -> dict[str, str]:
        return {**_found(job, folder).provenance(), "ranks": str(job.spec["ranks"])}


def _found(job: Job | None = None, folder: Path | None = None) -> mpi.Mpi:
    """The MPI to start a job with: the one its program is linked with, where it is not built here."""
    try:
        found = mpi.find()
        if job is None or folder is None or job.spec.get("build"):
            return found
        linked = mpi.linked(_program(job, folder))
        if found.runs(linked):
            return found
        try:
            return mpi.find(linked)
        except MissingTool as error:
            raise MissingTool(f"{_mismatch(job, linked, found)}: {error}") from error
    except MissingTool as error:
        raise JobError(Reason.MISSING_PROGRAM, str(error)) from error


def _program(job: Job, folder: Path) -> Path:
    """Where the program's file is as far as it can be read here; in an image it cannot."""
    name = job.spec["program"]
    if "/" not in name and current() is HOST:
        return Path(HOST.which(name) or folder / name)
    path = folder / name
    return path if current() is HOST or path.is_relative_to(folder) else folder


def _mismatch(job: Job, linked: str | None, found: mpi.Mpi) -> str:
    return (
        f"{job.spec['program']} is linked with {linked}, and {found.launcher} is {found.flavour}"
        f" {found.version}, under which each rank would run alone; build it with the mpicc beside"
        " that mpiexec"
    )


def _build_steps(build: Sequence[Sequence[str]], env: dict[str, str]) -> list[Step]:
    return [
        Step(name=f"{_BUILD}-{number}", argv=tuple(argv), log=_BUILD_LOG, env=env)
        for number, argv in enumerate(build, 1)
    ]


def _last_build(job: Job) -> str:
    return f"{_BUILD}-{len(job.spec.get('build') or ())}"


def _built(job: Job, folder: Path, found: mpi.Mpi) -> Path:
    """Where the build of this version of the files is, or will be."""
    key = json.dumps(
        [job.bundle, job.spec["build"], job.spec.get("env"), found.launcher, found.version,
         current().name]
    )  # fmt: skip
    return folder.parent / _CACHE / hashlib.sha256(key.encode()).hexdigest()


def _remember(cache: Path, folder: Path) -> None:
    """Keep a copy for the jobs to come. Whoever is first wins: the others have built the same."""
    cache.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as partial:
        copy = Path(partial) / "copy"
        shutil.copytree(folder, copy)
        with suppress(OSError):
            copy.rename(cache)
