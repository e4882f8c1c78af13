"""Containers through the Docker engine: started, waited for, ended, removed."""

from __future__ import annotations

import math
import os
import select
import signal
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack

from queue_runner.errors import EngineUnavailable, JobError
from queue_runner.images.engine import engine_errors, open_engine
from queue_runner.model import Job, Reason, Resources
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.runtimes import owner as owners
from queue_runner.workers.runtimes.base import Outcome, Runtime, Stop
from queue_runner.workers.runtimes.docker import leftovers
from queue_runner.workers.runtimes.docker.cpus import Cpus
from queue_runner.workers.runtimes.docker.images import resolve
from queue_runner.workers.runtimes.docker.settings import container_settings, user, variables
from queue_runner.workers.runtimes.docker.site import ImageSite
from queue_runner.workers.runtimes.docker.stream import Attached
from queue_runner.workers.runtimes.janitor import Janitor
from queue_runner.workers.runtimes.process import own_program
from queue_runner.workers.site import Site

if TYPE_CHECKING:
    from docker.models.images import Image

#: Seconds between SIGTERM and SIGKILL.
_TERM_GRACE_S = 1
#: Seconds for the last of a log to arrive after the container's end.
_LOG_S = 10.0
_API_S = 120.0
_KILLED = 128


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
        self._cpus = Cpus()
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
        with own as cpus, engine_errors():
            container = self._create(image, step, job, folder, limits, cpus)
            try:
                return _Attempt(container, step, folder).run(wall_time_s, stop)
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
                labels={**self._labels, **_names(job, step)},
                stdin_open=step.request is not None,
                **container_settings(job, folder, limits, cpus),
            )
        except APIError as error:
            raise JobError(
                Reason.PREPARE,
                f"the Docker engine makes no container for {argv[0]!r}: {error.explanation}",
                step=step.name,
            ) from error

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


def _called(image: Image) -> str:
    return image.tags[0] if image.tags else "(untagged)"


def _argv(step: Step) -> tuple[str, ...]:
    # our server for Python calls is named by the worker's interpreter, which is not in the image
    return step.argv if step.request is None else ("python3", *step.argv[1:])


def _names(job: Job, step: Step) -> dict[str, str]:
    return {
        "queue-runner.study": job.study,
        "queue-runner.job": job.id,
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


class _Attempt:
    """One container from its start to its end."""

    def __init__(self, container: Any, step: Step, folder: Path) -> None:
        self._container, self._step, self._folder = container, step, folder
        self._answer = b""
        self._ended = os.eventfd(0, os.EFD_CLOEXEC)
        self._status: dict[str, Any] = {}
        self._error: BaseException | None = None

    def run(self, wall_time_s: float | None, stop: Stop) -> Outcome:
        with (self._folder / self._step.log).open("ab", buffering=0) as log:

            def sink(stream: int, data: bytes) -> None:
                if stream == 1 and self._step.request is not None:
                    self._answer += data
                else:
                    log.write(data)

            attached = Attached(self._container, sink, stdin=self._step.request is not None)
            try:
                return self._attended(attached, wall_time_s, stop)
            finally:
                attached.close(_LOG_S)
                os.close(self._ended)

    def _attended(self, attached: Attached, wall_time_s: float | None, stop: Stop) -> Outcome:
        started = time.monotonic()
        self._start()
        if self._step.request is not None:
            attached.send(struct.pack(">I", len(self._step.request)) + self._step.request)
        waiter = threading.Thread(target=self._wait, name="docker-wait", daemon=True)
        waiter.start()
        deadline = math.inf if wall_time_s is None else started + wall_time_s
        ended_by = self._await_end(deadline, stop)
        if ended_by is not None:
            self._container.stop(timeout=_TERM_GRACE_S)
        waiter.join()
        wall_s = time.monotonic() - started
        if self._error is not None and ended_by is None:
            raise self._error
        attached.close(_LOG_S)
        return self._outcome(ended_by, wall_s)

    def _start(self) -> None:
        from docker.errors import APIError

        try:
            self._container.start()
        except APIError as error:
            text = str(error.explanation)
            raise JobError(
                Reason.PREPARE,
                f"the Docker engine does not start {self._step.name}: {text}",
                step=self._step.name,
            ) from error

    def _wait(self) -> None:
        try:
            self._status = self._container.wait(timeout=None)
        except Exception as error:  # noqa: BLE001 - raised by the thread that waits for this one
            self._error = error
        finally:
            os.eventfd_write(self._ended, 1)

    def _await_end(self, deadline: float, stop: Stop) -> str | None:
        """Why it has to be ended, as in `Outcome.ended_by`; None when it has ended."""
        poller = select.poll()
        poller.register(self._ended, select.POLLIN)
        poller.register(stop.fileno(), select.POLLIN)
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return "wall-time"
            events = dict(poller.poll(None if math.isinf(left_s) else math.ceil(left_s * 1000)))
            if self._ended in events:
                return None
            if events:
                return "stop"

    def _outcome(self, ended_by: str | None, wall_s: float) -> Outcome:
        self._container.reload()
        state: Mapping[str, Any] = self._container.attrs["State"]
        code = int(state["ExitCode"])
        cpu_s, max_rss_bytes = 0.0, 0
        if ended_by is None and state.get("OOMKilled") and code != 0:
            ended_by = "out-of-memory"
        elif ended_by is None and code > _KILLED and self._was_killed():
            raise EngineUnavailable(
                f"the container of {self._step.name} was ended from outside (signal {code - _KILLED}):"
                " by somebody, or by an engine that was shut down"
            )
        elif ended_by is None and self._step.request is not None and len(self._answer) > 4:
            code, cpu_s, max_rss_bytes, _ = msgpack.unpackb(self._answer[4:])
        if _KILLED < code < _KILLED + signal.NSIG:
            # the engine's way to name a signal, in ours
            code = _KILLED - code
        return Outcome(code, wall_s, cpu_s, max_rss_bytes, ended_by)

    def _was_killed(self) -> bool:
        """Whether the engine was asked to send it a signal; that is no fault of the job."""
        state = self._container.attrs["State"]
        client = self._container.client
        events = client.api.events(
            since=_second(state["StartedAt"]) - 1,
            until=_second(state["FinishedAt"]) + 1,
            filters={"container": self._container.id, "event": "kill"},
            decode=True,
        )
        try:
            return next(iter(events), None) is not None
        finally:
            events.close()


def _second(timestamp: str) -> int:
    """Whole seconds since 1970, by the engine's own clock, of a time in its form."""
    return int(datetime.fromisoformat(timestamp).timestamp())
