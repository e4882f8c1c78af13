"""Kind `mpi`: a program on several ranks, built once per worker and version of its files."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from queue_runner.errors import JobError, MissingTool
from queue_runner.model import Job, Reason
from queue_runner.workers import mpi
from queue_runner.workers.kinds.base import Kind, Step

_BUILD_LOG = "log.build"


class MpiKind(Kind):
    def prepare(self, job: Job, folder: Path) -> None:
        if job.spec.get("build"):
            _built(job, folder, _found())

    def steps(self, job: Job, folder: Path) -> Sequence[Step]:
        found = _found()
        spec = job.spec
        argv = found.argv(int(spec["ranks"]), tuple(spec.get("mpiexec_args") or ()))
        env = {**found.environment(), **(spec.get("env") or {})}
        program = (*argv, spec["program"], *spec.get("args", ()))
        return [Step(name="mpiexec", argv=program, log="log.mpiexec", env=env)]

    def provenance(self, job: Job, folder: Path) -> dict[str, str]:
        return {**_found().provenance(), "ranks": str(job.spec["ranks"])}


def _found() -> mpi.Mpi:
    try:
        return mpi.find()
    except MissingTool as error:
        raise JobError(Reason.MISSING_PROGRAM, str(error)) from error


def _built(job: Job, folder: Path, found: mpi.Mpi) -> None:
    """Copy the build of this version of the files into `folder`, making it if need be."""
    key = json.dumps(
        [job.bundle, job.spec["build"], job.spec.get("env"), found.launcher, found.version]
    )
    cache = folder.parent / "build-cache" / hashlib.sha256(key.encode()).hexdigest()
    cache.parent.mkdir(exist_ok=True)
    with cache.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if cache.is_dir():
            shutil.copytree(cache, folder, dirs_exist_ok=True)
            return
        _build(job, folder, found)
        partial = cache.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(folder, partial)
        partial.rename(cache)


def _build(job: Job, folder: Path, found: mpi.Mpi) -> None:
    env = {**found.environment(), **(job.spec.get("env") or {})}
    for argv in job.spec["build"]:
        program = shutil.which(argv[0], path=env["PATH"]) or argv[0]
        try:
            done = subprocess.run(
                [program, *argv[1:]],
                cwd=folder,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=job.resources.wall_time_s,
            )
        except FileNotFoundError as error:
            raise JobError(
                Reason.MISSING_PROGRAM, f"build: {argv[0]!r} is not installed", step="build"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise JobError(
                Reason.WALL_TIME, f"build: {argv[0]!r} ran too long", step="build"
            ) from error
        with (folder / _BUILD_LOG).open("a") as log:
            log.write(done.stdout)
        if done.returncode:
            tail = "\n".join(done.stdout.splitlines()[-10:])
            text = f"build: {' '.join(argv)} ended with {done.returncode}:\n{tail}"
            raise JobError(Reason.PREPARE, text, step="build", exit_code=done.returncode)
