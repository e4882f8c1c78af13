"""Containers through the Docker engine: started, waited for, ended, removed."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from queue_runner.errors import EngineUnavailable, JobError
from queue_runner.images.engine import engine_errors, open_engine
from queue_runner.model import Job, Reason, Resources
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.runtimes import owner as owners
from queue_runner.workers.runtimes.base import Outcome, Runtime, Stop
from queue_runner.workers.runtimes.docker import leftovers
from queue_runner.workers.runtimes.docker.attempt import Attempt
from queue_runner.workers.runtimes.docker.cpus import Cpus
from queue_runner.workers.runtimes.docker.images import resolve
from queue_runner.workers.runtimes.docker.refusals import refused
from queue_runner.workers.runtimes.docker.settings import container_settings, user, variables
from queue_runner.workers.runtimes.docker.site import ImageSite
from queue_runner.workers.runtimes.janitor import Janitor
from queue_runner.workers.runtimes.process import own_program
from queue_runner.workers.site import Site

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

_API_S = 120.0


class DockerRuntime(Runtime):
    """`image`: for jobs that name none, instead of the default of their kind.

    Raises `EngineUnavailable`, `EngineRefused`, `MissingTool`.
    """

    def __init__(self, scratch: Path, image: str | None = None) -> None:
        self._default = image
        self._scratch = scratch
        self._stack = ExitStack()
        self._client = self._stack.enter_context(open_engine(_API_S))
        self._owner = owners.Owner(scratch)
        self._labels = leftovers.labels(self._owner)
        self._janitor = Janitor(self._owner.lock)
        self._cpus = Cpus(_cpu_numbers(self._client), scratch / "cpus")
        self._sites: dict[str, ImageSite] = {}
        self._lock = threading.Lock()
        self._left: list[Any] = []

    @property
    def folder(self) -> Path:
        return self._owner.folder

    def site(self, job: Job) -> Site:
        return self._site(resolve(self._client, job, self._default))

    def _site(self, image: Image) -> ImageSite:
        with self._lock:
            return self._sites.setdefault(
                str(image.id), ImageSite(self._client, image, self._labels)
            )

    def provenance(self, job: Job) -> dict[str, str]:
        image = resolve(self._client, job, self._default)
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
        self._drop_left()
        image = resolve(self._client, job, self._default)
        self._check_program(step, image, folder)
        (folder / step.log).touch()
        _hand_over(folder)
        own = self._cpus.taken(limits.cores) if job.container.get("cpuset") else nullcontext()
        names = _names(job, worker, attempt, step)
        with own as cpus, engine_errors():
            container = self._create(image, step, job, names, folder, limits, cpus)
            try:
                return Attempt(container, step, folder).run(wall_time_s, stop)
            finally:
                self._drop(container)

    def _drop(self, container: Any) -> None:
        """Remove a container; one whose engine is away, when that is back."""
        try:
            with engine_errors():
                _remove(container)
        except EngineUnavailable:
            with self._lock:
                self._left.append(container)

    def _drop_left(self) -> None:
        with self._lock:
            left, self._left = self._left, []
        for container in left:
            self._drop(container)

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
            return self._client.containers.create(
                str(image.id),
                list(argv[1:]),
                entrypoint=[argv[0]],
                environment=variables(job, folder, limits, step.env),
                labels={**self._labels, **names},
                stdin_open=step.request is not None,
                **container_settings(job, folder, limits, cpus),
            )
        except APIError as error:
            raise refused(error, step, "makes no container for") from error

    def sweep(self) -> int:
        removed = leftovers.sweep(self._client)
        owners.sweep(self._scratch)
        return removed

    def close(self) -> None:
        try:
            leftovers.remove(self._client, self._labels)
        finally:
            self._janitor.close()
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
        "queue-runner.job": job.id,
        "queue-runner.attempt": str(attempt),
        "queue-runner.worker": worker,
        "queue-runner.step": step.name,
    }


def _hand_over(folder: Path) -> None:
    """Let the job's user own its folder, where the worker is another: root."""
    uid, gid = user()
    if os.geteuid() != 0:
        return
    for directory, _, files in os.walk(folder):
        for path in (directory, *(os.path.join(directory, name) for name in files)):
            os.chown(path, uid, gid, follow_symlinks=False)


def _remove(container: Any) -> None:
    from docker.errors import APIError

    try:
        container.remove(force=True, v=True)
    except APIError as error:
        # it is gone, or somebody else is just removing it
        if error.status_code not in (404, 409):
            raise
