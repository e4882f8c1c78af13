"""Warm containers: one for each study and slot, for jobs that are much shorter than a container's start.

Off unless the worker is told: what a job may do to the next of its study stands in docs/containers.md.
"""

from __future__ import annotations

import logging
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from queue_runner.errors import EngineUnavailable
from queue_runner.model import Job, Resources
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.leavings import remove
from queue_runner.workers.runtimes.base import Outcome, Stop
from queue_runner.workers.runtimes.docker.containers import Containers
from queue_runner.workers.runtimes.docker.refusals import refused
from queue_runner.workers.runtimes.docker.settings import container_settings, variables
from queue_runner.workers.runtimes.docker.supervisor import command
from queue_runner.workers.runtimes.docker.warm_container import (
    SLOT_MODE,
    NotReady,
    Told,
    WarmContainer,
)
from queue_runner.workers.runtimes.idle import Idle

if TYPE_CHECKING:
    from docker.models.images import Image

log = logging.getLogger("queue_runner.worker")

#: Seconds after which one that nothing was done in is ended.
IDLE_S = 60.0
#: Idle ones that are kept; with more, the one that was idle for longest is ended.
_MAX_IDLE = 32
_SHELL = Step("the supervisor", ("/bin/sh",), "")

#: What has to be equal for a container to take a step.
_Key = tuple[object, ...]


class WarmContainers:
    """folder: the worker's, which each container has an empty one of its own in the place of."""

    def __init__(self, containers: Containers, folder: Path) -> None:
        self._containers, self._folder = containers, folder
        self._idle: Idle[WarmContainer] = Idle(
            "warm-containers", _MAX_IDLE, IDLE_S, WarmContainer.end
        )
        self._unfit: set[str] = set()

    def run(
        self,
        step: Step,
        argv: tuple[str, ...],
        job: Job,
        folder: Path,
        image: Image,
        worker: str,
        limits: Resources,
        wall_time_s: float | None,
        stop: Stop,
    ) -> Outcome | None:
        """As `Runtime.run`; None for what takes a container of its own."""
        if not self._takes(job, image):
            return None
        told = Told.of(step, argv, folder, variables(job, folder, limits, step.env))
        if told is None:
            return None
        key: _Key = (job.study, image.id, limits, tuple(sorted(job.container.items())))
        container = self._take(key) or self._start(job, image, worker, limits)
        if container is None:
            return None
        try:
            return container.do(told, folder, wall_time_s, stop, limits.disk_bytes)
        finally:
            if container.usable:
                self._idle.put(key, container)
            else:
                container.end()

    def _takes(self, job: Job, image: Image) -> bool:
        """Not where somebody looks into the work folder meanwhile (checkpoints), where CPUs are given out
        with each job, or where the image has folders to write to that are new in every container.
        """
        return (
            job.resume is None
            and not job.container.get("cpuset")
            and not image.attrs["Config"].get("Volumes")
            and image.id not in self._unfit
        )

    def _take(self, key: _Key) -> WarmContainer | None:
        while (container := self._idle.take(key)) is not None:
            if container.alive:
                return container
            container.end()
        return None

    def _start(
        self, job: Job, image: Image, worker: str, limits: Resources
    ) -> WarmContainer | None:
        from docker.errors import APIError

        slot = self._folder / f".warm-{uuid.uuid4().hex[:12]}"
        slot.mkdir(mode=SLOT_MODE)
        try:
            with ExitStack() as undo:
                undo.callback(remove, slot)
                created = self._create(job, image, worker, limits, slot)
                container = WarmContainer(created, slot, self._containers.remove)
                undo.pop_all()
                return container
        except (APIError, NotReady) as error:
            if isinstance(error, APIError) and isinstance(
                refusal := refused(error, _SHELL, "does not start"), EngineUnavailable
            ):
                raise refusal from error
            # the ordinary way says what is wrong where it is more than that
            self._unfit.add(str(image.id))
            log.warning("jobs in %s get containers of their own: %s", image.id, error)
            return None

    def _create(self, job: Job, image: Image, worker: str, limits: Resources, slot: Path) -> Any:
        settings = container_settings(job, self._folder, limits, None, source=slot)
        # process 1 gets no signal from what runs beside it, and waits for orphans
        settings |= {"init": False, "working_dir": "/"}
        names = {
            "queue-runner.study": job.study,
            "queue-runner.worker": worker,
            "queue-runner.warm": "yes",
        }
        shell, *arguments = command(self._folder)
        return self._containers.create(
            str(image.id),
            arguments,
            names,
            entrypoint=[shell],
            stdin_open=True,
            **settings,
        )

    def close(self) -> None:
        """End those that are idle; nothing runs any more."""
        self._idle.close()
