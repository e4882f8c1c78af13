"""A container that does one step after another, through the supervisor that is its process 1."""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import struct
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queue_runner.errors import EngineUnavailable, JobError
from queue_runner.model import Reason
from queue_runner.workers.disk import DiskWatch
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.leavings import open_file, remove
from queue_runner.workers.runtimes.base import Outcome, Stop
from queue_runner.workers.runtimes.docker.events import EVENT_S, OOM_S, has_noted
from queue_runner.workers.runtimes.docker.settings import user
from queue_runner.workers.runtimes.docker.stream import Talk
from queue_runner.workers.runtimes.docker.supervisor import (
    ANSWER,
    MOST_ANSWER,
    READY,
    REQUEST,
    TERMINATE,
    Said,
    heard,
    spoken,
)
from queue_runner.workers.runtimes.warm import unpacked

log = logging.getLogger("queue_runner.worker")

#: Seconds between SIGTERM and the container's end.
_TERM_GRACE_S = 1.0
#: Seconds for a shell to say that it is there; and for a container to end whose process 1 has.
_READY_S, _END_S = 60.0, 10.0
_KILLED = 128
#: Of the folder with the work folder in it, which is root's where the worker is root.
SLOT_MODE = 0o755


@dataclass(frozen=True, slots=True)
class Told:
    """A step as a supervisor is told it; `token` marks its answer."""

    token: str
    text: bytes
    step: Step

    @staticmethod
    def of(step: Step, argv: tuple[str, ...], folder: Path, env: Mapping[str, str]) -> Told | None:
        """None for a step that a shell cannot start as it is meant."""
        token = uuid.uuid4().hex
        call = step.request is not None
        text = spoken(token, str(folder), step.log, env, argv, call=call)
        return None if text is None else Told(token, text, step)


class WarmContainer:
    """container: created, with `SCRIPT` as its process 1, and started here. slot: the folder that it has in
    the place of its worker's. drop: ends and removes it.

    Work folders are put into the slot for as long as a step runs, so that no job sees another's. Used by
    one thread at a time, which calls `end` once it is not `usable`. Raises what the engine answers, and
    `NotReady`.
    """

    def __init__(self, container: Any, slot: Path, drop: Callable[[Any], None]) -> None:
        self._container, self._slot, self._drop = container, slot, drop
        self._cpu_s, self._oom = 0.0, 0
        self._gone = self.usable = False
        try:
            self._talk = Talk(container)
        except BaseException:
            drop(container)
            raise
        try:
            container.start()
            self._await_ready()
        except BaseException:
            self.end()
            raise

    def _await_ready(self) -> None:
        is_ready = (READY + b"\n").__eq__
        if self._await(is_ready, time.monotonic() + _READY_S) is not None or self._talk.ended:
            raise NotReady(f"its /bin/sh does not say {READY.decode()!r}")
        self.usable = True

    @property
    def alive(self) -> bool:
        """Whether it is still there, and silent, as it is when nothing runs."""
        return self.usable and not self._talk.readable()

    def end(self) -> None:
        """End it and all that runs in it. Idempotent."""
        self._kill()
        remove(self._slot)

    def _kill(self) -> None:
        self.usable = False
        if not self._gone:
            self._gone = True
            self._talk.close()
            self._drop(self._container)

    def do(
        self,
        told: Told,
        folder: Path,
        wall_time_s: float | None,
        stop: Stop,
        disk_bytes: int | None,
    ) -> Outcome:
        """Run a step; afterwards nothing of it is left here, or the container is not usable, and has ended.

        Raises `JobError` where the job has taken its work folder away; else as the ordinary way does.
        """
        place = self._slot / folder.name
        made = os.lstat(folder)
        os.rename(folder, place)
        try:
            self._lay_out(told.step)
            outcome = self._done(told, place, wall_time_s, stop, disk_bytes)
            return self._answered(told.step, outcome)
        except BaseException:
            self.usable = False
            raise
        finally:
            # what runs has ended before its folder is anybody else's
            if not self.usable:
                self._kill()
            try:
                # the slot may be the job's own user's, who may have closed it
                os.chmod(self._slot, SLOT_MODE)
                _take_back(place, folder, made, told.step)
            except BaseException:
                self._kill()
                raise
            finally:
                self._tidy()

    def _done(
        self,
        told: Told,
        place: Path,
        wall_time_s: float | None,
        stop: Stop,
        disk_bytes: int | None,
    ) -> Outcome:
        started = time.monotonic()
        deadline = math.inf if wall_time_s is None else started + wall_time_s
        said: Said | None = None

        def is_answer(answer: bytes) -> bool:
            nonlocal said
            said = heard(told.token, answer)
            return said is not None

        self._talk.say(told.text)
        ended_by = self._await(is_answer, deadline, stop, DiskWatch(disk_bytes, [place]))
        if ended_by is not None:
            # a signal that comes late would be the next step's
            self.usable = False
            self._terminate()
            self._await(is_answer, time.monotonic() + _TERM_GRACE_S)
        wall_s = time.monotonic() - started
        if said is not None:
            return self._outcome(said, wall_s, ended_by)
        self.usable = False
        if ended_by is None:
            return self._died(told.step, wall_s)
        return Outcome(-signal.SIGKILL, wall_s, 0.0, 0, ended_by)

    def _await(
        self,
        is_answer: Callable[[bytes], bool],
        deadline: float,
        stop: Stop | None = None,
        disk: DiskWatch | None = None,
    ) -> str | None:
        """Why it has to be ended, as in `Outcome.ended_by`; None when there is an answer, or will be none."""
        disk = disk or DiskWatch(None, ())
        poller = select.poll()
        poller.register(self._talk, select.POLLIN)
        if stop is not None:
            poller.register(stop.fileno(), select.POLLIN)
        answer = b""
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return "wall-time"
            if disk.over():
                return "disk-limit"
            wait_s = max(0.0, min(left_s, disk.wait_s()))
            events = dict(poller.poll(None if math.isinf(wait_s) else math.ceil(wait_s * 1000)))
            if self._talk.fileno() in events:
                answer += self._talk.hear()
                if is_answer(answer) or self._talk.ended or len(answer) > MOST_ANSWER:
                    return None
            elif events:
                return "stop"

    def _terminate(self) -> None:
        from docker.errors import APIError

        api = self._container.client.api
        try:
            made = api.exec_create(self._container.id, list(TERMINATE), stdout=False, stderr=False)
            api.exec_start(made["Id"], detach=True)
        except APIError as error:
            # it has just ended, or has no room for one process more: it gets SIGKILL then
            log.debug("%s gets no SIGTERM: %s", self._container.id, error)

    def _outcome(self, said: Said, wall_s: float, ended_by: str | None) -> Outcome:
        cpu_s = 0.0
        if said.cpu_s is not None:
            cpu_s, self._cpu_s = max(0.0, said.cpu_s - self._cpu_s), said.cpu_s
        if ended_by is None and said.code != 0 and self._ran_out_of_memory(said):
            ended_by = "out-of-memory"
        self._oom = said.oom or 0
        self.usable = self.usable and said.clean
        return Outcome(_code(said.code), wall_s, cpu_s, 0, ended_by)

    def _ran_out_of_memory(self, said: Said) -> bool:
        if said.oom is not None:
            return said.oom > self._oom
        if said.code != _KILLED + signal.SIGKILL:
            return False
        # it cannot see its own limits: the engine notes what the kernel does, and tells when it has ended
        self.usable = False
        self._container.kill()
        self._container.wait(timeout=_END_S)
        self._container.reload()
        return has_noted(self._container, "oom", OOM_S)

    def _died(self, step: Step, wall_s: float) -> Outcome:
        """What it means that there is no answer: its process 1 has ended, or talks nonsense."""
        from docker.errors import NotFound

        try:
            if self._talk.ended:
                self._container.wait(timeout=_END_S)
            self._container.reload()
        except NotFound as error:
            raise EngineUnavailable(
                f"the container of {step.name} was removed from outside: {error}"
            ) from error
        state = self._container.attrs["State"]
        if state["Running"]:
            return Outcome(-signal.SIGKILL, wall_s, 0.0, 0)
        if state.get("OOMKilled") or has_noted(self._container, "oom", EVENT_S):
            return Outcome(-signal.SIGKILL, wall_s, 0.0, 0, "out-of-memory")
        if has_noted(self._container, "kill", EVENT_S):
            raise EngineUnavailable(
                f"the container of {step.name} was ended from outside (exit code"
                f" {state['ExitCode']}): by somebody, or by an engine that was shut down"
            )
        # whatever its process 1 says with its end: the step has no exit code, and did not succeed
        return Outcome(-signal.SIGKILL, wall_s, 0.0, 0)

    def _lay_out(self, step: Step) -> None:
        if step.request is None:
            return
        request = struct.pack(">I", len(step.request)) + step.request
        _write_new(self._slot / REQUEST, request, 0o644)
        _write_new(self._slot / ANSWER, b"", 0o600)
        if os.geteuid() == 0:
            os.chown(self._slot / ANSWER, *user())

    def _answered(self, step: Step, outcome: Outcome) -> Outcome:
        """With what our server for Python calls said of itself."""
        if step.request is None or outcome.ended_by is not None:
            return outcome
        try:
            with open_file(self._slot / ANSWER) as file:
                said = file.read(MOST_ANSWER)
        except OSError:
            # the job has put something else there: it said nothing
            return outcome
        answer = unpacked(said[4:])
        if answer is None:
            return outcome
        code, cpu_s, max_rss_bytes, _ = answer
        return Outcome(code, outcome.wall_s, cpu_s, max_rss_bytes)

    def _tidy(self) -> None:
        with os.scandir(self._slot) as entries:
            left = [Path(entry.path) for entry in entries]
        for path in left:
            remove(path)


class NotReady(Exception):
    """No supervisor works in this image."""


def _code(code: int) -> int:
    """A shell's way to name a signal, in ours."""
    return _KILLED - code if _KILLED < code < _KILLED + signal.NSIG else code


def _write_new(path: Path, content: bytes, mode: int) -> None:
    # the slot may be the job's own user's
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(handle, "wb") as file:
        os.fchmod(handle, mode)
        file.write(content)


def _take_back(place: Path, folder: Path, made: os.stat_result, step: Step) -> None:
    """Nothing runs there any more; but what is there may be something else by now."""
    try:
        found = os.lstat(place)
    except FileNotFoundError:
        found = None
    if found is not None and (found.st_dev, found.st_ino) == (made.st_dev, made.st_ino):
        # a folder is renamed by whoever may write to it
        os.chmod(place, 0o700)
        os.rename(place, folder)
        return
    folder.mkdir(mode=0o700)
    raise JobError(
        Reason.PREPARE, f"{step.name} has moved its work folder away, or removed it", step=step.name
    )
