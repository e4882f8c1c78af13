"""Containers through the Docker engine: started, waited for, ended, removed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from queue_runner.errors import EngineUnavailable, FixThis, JobError
from queue_runner.images.engine import engine_errors, open_engine
from queue_runner.model import Job, Reason, Resources
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.leavings import open_log
from queue_runner.workers.runtimes import owner as owners
from queue_runner.workers.runtimes.base import Left, Outcome, Runtime, Stop
from queue_runner.workers.runtimes.docker import leftovers
from queue_runner.workers.runtimes.docker.attempt import Attempt
from queue_runner.workers.runtimes.docker.containers import Containers
from queue_runner.workers.runtimes.docker.cpus import Cpus
from queue_runner.workers.runtimes.docker.images import Images, names_of
from queue_runner.workers.runtimes.docker.refusals import refused
from queue_runner.workers.runtimes.docker.settings import (
    container_settings,
    user,
    variables,
)
from queue_runner.workers.runtimes.docker.site import ImageSite
from queue_runner.workers.runtimes.docker.warm import WarmContainers
from queue_runner.workers.runtimes.janitor import Janitor
from queue_runner.workers.runtimes.process import own_program
from queue_runner.workers.site import Site

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

_API_S = 120.0


class DockerRuntime(Runtime):
    """image: for jobs that name none, instead of the default of their kind. successor_of: the name of the
    worker whose containers this runtime may leave to the next one, and take over from the one before.
    warm: containers serve one job of a study after another.

    Raises `EngineUnavailable`, `EngineRefused`, `MissingTool`, `FixThis`.
    """

    hands_over = True

    def __init__(
        self,
        scratch: Path,
        image: str | None = None,
        successor_of: str | None = None,
        *,
        warm: bool = False,
    ) -> None:
        if warm and successor_of is not None:
            raise FixThis(
                "--warm and --hand-over exclude each other: a warm container ends with its worker,"
                " and its job with it. Leave one of them out"
            )
        self._scratch = scratch
        self._stack = ExitStack()
        self._client = self._stack.enter_context(open_engine(_API_S))
        self._images = Images(self._client, image)
        self._owner = owners.Owner(scratch, successor_of)
        self._logged, self._handed = successor_of is not None, False
        self._labels = leftovers.labels(self._owner)
        self._containers = Containers(self._client, self._labels)
        self._janitor = Janitor(self._owner.lock, containers=True)
        self._cpus = Cpus(_cpu_numbers(self._client), scratch / "cpus")
        self._sites: dict[str, ImageSite] = {}
        self._lock = threading.Lock()
        self._warm: WarmContainers | None = None
        if warm:
            self._warm = WarmContainers(self._containers, self._owner.folder)

    @property
    def folder(self) -> Path:
        return self._owner.folder

    def site(self, job: Job) -> Site:
        return self._site(self._images.of(job))

    def _site(self, image: Image) -> ImageSite:
        with self._lock:
            return self._sites.setdefault(str(image.id), ImageSite(self._containers, image))

    def image_names(self, job: Job) -> Sequence[str]:
        return names_of(self._images.of(job))

    def provenance(self, job: Job) -> dict[str, str]:
        image = self._images.of(job)
        return {"image": f"{_called(image)}@{image.id}"}

    def run(
        self,
        step: Step,
        job: Job,
        folder: Path,
        *,
        worker: str,
        attempt: int,
        limits: Resources,
        wall_time_s: float | None,
        stop: Stop,
    ) -> Outcome:
        image = self._images.of(job)
        self._check_program(step, image, folder)
        open_log(folder / step.log).close()
        _lend(folder)
        if self._warm is not None:
            with engine_errors():
                outcome = self._warm.run(
                    step, _argv(step), job, folder, image, worker, limits, wall_time_s, stop
                )
            if outcome is not None:
                return outcome
        own = self._cpus.taken(limits.cores) if job.container.get("cpuset") else nullcontext()
        names = _names(job, worker, attempt, step)
        with own as cpus, engine_errors():
            container = self._create(image, step, job, names, folder, limits, cpus)
            running = Attempt(container, step, folder)
            return self._made(container, lambda: running.run(wall_time_s, stop, limits.disk_bytes))

    def take_over(
        self,
        left: Left,
        step: Step,
        job: Job,
        folder: Path,
        *,
        wall_time_s: float | None,
        stop: Stop,
    ) -> Outcome:
        with engine_errors():
            container = self._found(left)
            own = container.attrs["HostConfig"].get("CpusetCpus") or ""
            running = Attempt(container, step, folder)
            limit = job.resources.disk_bytes
            with self._cpus.retaken([int(each) for each in own.split(",") if each]):
                return self._made(
                    container, lambda: running.take_over(left, wall_time_s, stop, limit)
                )

    def _found(self, left: Left) -> Any:
        from docker.errors import NotFound

        try:
            return self._client.containers.get(left.handle)
        except NotFound as error:
            raise EngineUnavailable(f"the container that was left is gone: {error}") from error

    def _made(self, container: Any, attempt: Callable[[], Outcome]) -> Outcome:
        """What an attempt comes to; its container is removed then, unless it goes on."""
        try:
            outcome = attempt()
        except BaseException:
            # it may be running yet, in the job's folder
            self._containers.remove(container)
            raise
        if outcome.left is None:
            self._containers.remove_ended(container)
        return outcome

    def abandon(self, job_id: str) -> None:
        with engine_errors():
            leftovers.remove(self._client, {**self._labels, leftovers.JOB: job_id})

    def hand_over(self, worker: str, within_s: float) -> None:
        self._owner.hand_over(worker, within_s)
        self._handed = True

    def _check_program(self, step: Step, image: Image, folder: Path) -> None:
        name = _argv(step)[0]
        if name.startswith("/"):
            # in the image, where a look costs as much as the start
            return
        if "/" in name:
            own_program(step, folder)
        elif self._site(image).which(name, step.env.get("PATH")) is None:
            raise JobError(
                Reason.MISSING_PROGRAM,
                f"no program {name!r} in the image {_called(image)}",
                step=step.name,
            )

    def _create(
        self,
        image: Image,
        step: Step,
        job: Job,
        names: dict[str, str],
        folder: Path,
        limits: Resources,
        cpus: tuple[int, ...] | None,
    ) -> Any:
        from docker.errors import APIError

        argv = _argv(step)
        try:
            return self._containers.create(
                str(image.id),
                argv[1:],
                names,
                entrypoint=[argv[0]],
                environment=variables(job, folder, limits, step.env),
                stdin_open=step.request is not None,
                **container_settings(job, folder, limits, cpus, logged=self._logged),
            )
        except APIError as error:
            raise refused(error, step, "makes no container for") from error

    def sweep(self) -> int:
        removed = leftovers.sweep(self._client)
        owners.sweep(self._scratch)
        return removed

    def close(self) -> None:
        try:
            if self._warm is not None:
                self._warm.close()
            self._containers.close()
            if not self._handed:
                leftovers.remove(self._client, self._labels)
        finally:
            (self._janitor.leave if self._handed else self._janitor.close)()
            self._stack.close()
            self._owner.close()


def _cpu_numbers(client: DockerClient) -> Sequence[int]:
    """The CPUs that containers may be given: those of this process, or of an engine on another machine."""
    # the SDK's name for a Unix socket; http+docker://ssh is another machine
    if client.api.base_url == "http+docker://localhost":
        return sorted(os.sched_getaffinity(0))
    with engine_errors():
        return range(int(client.info()["NCPU"]))


def _called(image: Image) -> str:
    return image.tags[0] if image.tags else "(untagged)"


def _argv(step: Step) -> tuple[str, ...]:
    # our server for Python calls is named by the worker's interpreter, which is not in the image
    return step.argv if step.request is None else ("python3", *step.argv[1:])


def _names(job: Job, worker: str, attempt: int, step: Step) -> dict[str, str]:
    return {
        "queue-runner.study": job.study,
        leftovers.JOB: job.id,
        "queue-runner.attempt": str(attempt),
        "queue-runner.worker": worker,
        "queue-runner.step": step.name,
    }


def _lend(folder: Path) -> None:
    """Let the job's user own its folder, where the worker is another: root."""
    uid, gid = user()
    if os.geteuid() != 0:
        return
    for directory, _, files in os.walk(folder):
        for path in (directory, *(os.path.join(directory, name) for name in files)):
            os.chown(path, uid, gid, follow_symlinks=False)
