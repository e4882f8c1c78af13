"""A container of /bin/true by the engine alone: through its API, and by `docker run`."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, ClassVar

from measure.contender import Place
from measure.images import IMAGE
from measure.limits.base import Limit
from measure.tasks import TRUE
from queue_runner import Study
from queue_runner.images.engine import open_engine
from queue_runner.workers.runtimes.docker.settings import container_settings

_ROUNDS = 2
_DOCKER_RUN = ("docker", "run", "--rm", "--network", "none", "--entrypoint", TRUE, IMAGE)


class _ContainerLimit(Limit):
    """As many at a time as there are to be workers."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._threads = ThreadPoolExecutor(place.processes)

    def burst(self) -> int:
        count = _ROUNDS * self.place.processes
        list(self._threads.map(self.one, range(count)))
        return count

    def one(self, number: int) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self._threads.shutdown()


class DockerRunLimit(_ContainerLimit):
    def one(self, number: int) -> None:
        subprocess.run(_DOCKER_RUN, check=True)


class EngineApiLimit(_ContainerLimit):
    """Create, start, wait, remove, with the settings that the runtime gives a job's container."""

    packages: ClassVar[Sequence[str]] = ("docker",)

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._stack = ExitStack()

    def start(self) -> None:
        self._engine: Any = self._stack.enter_context(open_engine())
        study = Study(name="bare", kind="command", parameters={"x": [0]}, command={"run": [TRUE]})
        (job,) = study.jobs(None)
        self.place.work.chmod(0o755)
        self._settings = container_settings(job, self.place.work, job.resources, None)

    def versions(self) -> dict[str, str]:
        return {**super().versions(), "engine": self._engine.version()["Version"]}

    def stop(self) -> None:
        super().stop()
        self._stack.close()

    def one(self, number: int) -> None:
        container = self._engine.containers.create(IMAGE, entrypoint=[TRUE], **self._settings)
        try:
            container.start()
            status = container.wait()
        finally:
            container.remove(force=True)
        if status["StatusCode"]:
            raise RuntimeError(f"the container ended with {status}")
