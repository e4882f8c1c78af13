"""Runtime `process`: steps are child processes of the worker, each the leader of a session of its own."""

from __future__ import annotations

import errno
import math
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

from queue_runner.errors import JobError
from queue_runner.model import Job, Reason, Resources
from queue_runner.plugins import near, nearest
from queue_runner.workers.disk import DiskWatch
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.leavings import is_as_made, open_log, remove
from queue_runner.workers.runtimes import owner as owners
from queue_runner.workers.runtimes.base import Calling, Calls, Outcome, Runtime, Stop
from queue_runner.workers.runtimes.environment import MARK, environment
from queue_runner.workers.runtimes.janitor import Janitor
from queue_runner.workers.runtimes.processes import (
    TERM_GRACE_S,
    adopt_orphans,
    kill_escaped,
    session_rss_bytes,
    signal_group,
)
from queue_runner.workers.runtimes.warm import WarmServers
from queue_runner.workers.site import HOST, Site

#: Seconds between looks at the memory of a step that has a limit.
_WATCH_S = 0.25
#: What takes more and more until it is ended gets no time to end by itself.
AT_ONCE = ("out-of-memory", "disk-limit")
_NO_LIMIT = DiskWatch(None, ())
#: Seconds that a program may stay open for writing elsewhere (ETXTBSY).
_BUSY_S = 5.0


class ProcessRuntime(Runtime):
    """`scratch`: where its owner's folder with the lock is, and what a dead worker left."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._owner = owners.Owner(scratch)
        self._janitor = Janitor(self._owner.lock, containers=False)
        self._warm = WarmServers(self._owner)
        self._temporaries: list[Path] = []
        adopt_orphans()

    @property
    def folder(self) -> Path:
        """Where attempts' work folders belong, so that they are found when this worker dies."""
        return self._owner.folder

    def site(self, job: Job) -> Site:
        if job.image is not None:
            raise JobError(
                Reason.IMAGE,
                f"the study asks for the image {job.image}, and this worker starts bare processes;"
                " start it with --runtime docker, or leave `image` out",
            )
        return HOST

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
        if step.request is not None:
            return self._warm.run(
                step, job, folder, limits=limits, wall_time_s=wall_time_s, stop=stop
            )
        temporary = self._take_temporary()
        mark = uuid.uuid4().hex
        env = environment(job, folder, temporary, limits, self._owner.lock, mark) | dict(step.env)
        try:
            with open_log(folder / step.log) as log:
                process = start(step, folder, env, log.fileno())
            disk = DiskWatch(limits.disk_bytes, [folder, temporary])
            return _attend(process, limits, disk, wall_time_s, stop)
        finally:
            # whoever left the process group still has the mark in its environment
            kill_escaped(MARK, mark)
            self._put_back(temporary)

    def _take_temporary(self) -> Path:
        with suppress(IndexError):
            return self._temporaries.pop()
        return Path(tempfile.mkdtemp(dir=self._owner.temporary))

    def _put_back(self, temporary: Path) -> None:
        """One that is as it was made serves the next step, too."""
        if is_as_made(temporary):
            self._temporaries.append(temporary)
        else:
            remove(temporary)

    calls = True

    def ask(self, calls: Calls, job: Job, stop: Stop) -> Calling:
        return self._warm.ask(calls, job, stop)

    def sweep(self) -> int:
        return owners.sweep(self._scratch)

    def close(self) -> None:
        adopt_orphans(False)
        self._warm.close()
        self._janitor.dismiss()
        self._owner.close()


def start(
    step: Step, folder: Path, env: dict[str, str], log: int, *, piped: bool = False
) -> subprocess.Popen[bytes]:
    """Start a step in its folder. Raises `JobError` (missing program) in words for the user."""
    program = _program(step, folder, env)
    try:
        return _popen([program, *step.argv[1:]], folder, env, log, piped)
    except OSError as error:
        raise JobError(
            Reason.MISSING_PROGRAM,
            f"{step.argv[0]!r} cannot be started: {error.strerror}{_hint(Path(program), error)}",
            step=step.name,
        ) from error
    except ValueError as error:
        raise JobError(Reason.PREPARE, f"{step.argv!r:.200}: {error}", step=step.name) from error


def _popen(
    argv: list[str], folder: Path, env: dict[str, str], log: int, piped: bool
) -> subprocess.Popen[bytes]:
    end = time.monotonic() + _BUSY_S
    while True:
        try:
            return subprocess.Popen(
                argv,
                cwd=folder,
                env=env,
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else log,
                stderr=log,
                start_new_session=True,
            )
        except OSError as error:
            # a child that another thread is just starting still has the program open for writing,
            # from when it was copied here; the kernel tells nobody when that is over
            if error.errno != errno.ETXTBSY or time.monotonic() > end:
                raise
            # not `time.sleep`; see `pybatch.Page.hold`
            threading.Event().wait(0.005)


def _program(step: Step, folder: Path, env: dict[str, str]) -> str:
    name = step.argv[0]
    if "/" in name:
        return str(own_program(step, folder))
    found = shutil.which(name, path=env["PATH"])
    if found is None:
        raise JobError(
            Reason.MISSING_PROGRAM,
            f"no program {name!r} on this worker's PATH ({env['PATH']})"
            f"{near(name, _programs(env['PATH']))}",
            step=step.name,
        )
    return found


def own_program(step: Step, folder: Path) -> Path:
    """A program that is named by its path, from the work folder. Raises `JobError` (missing program)."""
    name = step.argv[0]
    path = folder / name
    if not path.is_file():
        there = [each.name for each in path.parent.glob("*")] if path.parent.is_dir() else []
        raise JobError(
            Reason.MISSING_PROGRAM,
            f"there is no program {name!r} in the work folder{nearest(path.name, there)}",
            step=step.name,
        )
    if not os.access(path, os.X_OK):
        raise JobError(
            Reason.MISSING_PROGRAM,
            f"{name!r} is not executable; run `chmod +x` on it and submit the study again",
            step=step.name,
        )
    return path


def _programs(path: str) -> set[str]:
    return {
        entry.name
        for folder in path.split(os.pathsep)
        if os.path.isdir(folder)
        for entry in os.scandir(folder)
    }


def _hint(program: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and program.is_file():
        with program.open("rb") as content:
            first = content.readline(200)
        if first.startswith(b"#!"):
            line = first.decode(errors="replace").strip()
            return f": its first line names an interpreter that is not there: {line}"
    if error.errno == errno.ENOEXEC:
        return ": a script needs a first line such as #!/bin/sh"
    return ""


def _attend(
    process: subprocess.Popen[bytes],
    limits: Resources,
    disk: DiskWatch,
    wall_time_s: float | None,
    stop: Stop,
) -> Outcome:
    """Wait for the end of a process, or bring it about."""
    started = time.monotonic()
    deadline = math.inf if wall_time_s is None else started + wall_time_s
    watched = os.pidfd_open(process.pid)
    try:
        ended_by = await_end(watched, process.pid, limits.memory_bytes, deadline, stop, disk)
        if ended_by is not None:
            end_group(watched, process.pid, at_once=ended_by in AT_ONCE)
    finally:
        os.close(watched)
        # also ends children that the leader left behind in its group
        signal_group(process.pid, signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Outcome(
        exit_code=process.returncode,
        wall_s=time.monotonic() - started,
        cpu_s=usage.ru_utime + usage.ru_stime,
        max_rss_bytes=usage.ru_maxrss * 1024,
        ended_by=ended_by,
    )


def await_end(
    watched: int,
    session: int,
    memory_bytes: int | None,
    deadline: float,
    stop: Stop,
    disk: DiskWatch = _NO_LIMIT,
) -> str | None:
    """Wait until `watched` is readable; else why the step has to be ended, as in `Outcome.ended_by`."""
    poller = select.poll()
    poller.register(watched, select.POLLIN)
    poller.register(stop.fileno(), select.POLLIN)
    while True:
        wait_s = min(deadline - time.monotonic(), disk.wait_s())
        if memory_bytes is not None:
            wait_s = min(wait_s, _WATCH_S)
        events = dict(poller.poll(None if math.isinf(wait_s) else max(0, math.ceil(wait_s * 1000))))
        if watched in events:
            return None
        if events:
            return "stop"
        if memory_bytes is not None and session_rss_bytes(session) > memory_bytes:
            return "out-of-memory"
        if disk.over():
            return "disk-limit"
        if time.monotonic() >= deadline:
            return "wall-time"


def end_group(watched: int, group: int, *, at_once: bool = False) -> None:
    """SIGTERM to a process group, SIGKILL when its leader has not ended a little later."""
    poller = select.poll()
    poller.register(watched, select.POLLIN)
    if not at_once:
        signal_group(group, signal.SIGTERM)
        if poller.poll(TERM_GRACE_S * 1000):
            return
    signal_group(group, signal.SIGKILL)
    poller.poll()
