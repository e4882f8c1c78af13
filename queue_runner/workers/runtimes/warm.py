"""Warm servers: processes that do one step after another, so that a short call need not start one.

A step with a `request` names the server to start (its `argv`); the request goes to its stdin as a
frame of four bytes of length (big-endian) and content, the answer comes from its stdout in the same
form: msgpack `[exit code, CPU seconds, peak memory in bytes, may be used again]`. See
`queue_runner.workers.pycall`.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import struct
import tempfile
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

import msgpack

from queue_runner.model import Job, Resources
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.runtimes.base import Outcome, Stop
from queue_runner.workers.runtimes.environment import MARK, environment
from queue_runner.workers.runtimes.owner import Owner
from queue_runner.workers.runtimes.processes import kill_marked, signal_group

#: Idle servers that are kept; with more, the one that was idle for longest is ended.
_MAX_IDLE = 64

#: What has to be equal for a server to take a step: program, bundle, environment and cores.
Key = tuple[object, ...]


class WarmServers:
    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._lock = threading.Lock()
        self._idle: list[tuple[Key, _Server]] = []
        self._all: set[_Server] = set()

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
        key: Key = (step.argv, job.study, job.bundle, tuple(sorted(step.env.items())), limits)
        server = self._take(key) or self._start(step, job, folder, limits)
        outcome = server.do(step, limits, wall_time_s, stop)
        if server.usable:
            self._put_back(key, server)
        else:
            self._forget(server)
        return outcome

    def close(self) -> None:
        with self._lock:
            servers, self._idle = list(self._all), []
        for server in servers:
            self._forget(server)

    def _take(self, key: Key) -> _Server | None:
        with self._lock:
            for place in range(len(self._idle) - 1, -1, -1):
                if self._idle[place][0] == key:
                    return self._idle.pop(place)[1]
        return None

    def _put_back(self, key: Key, server: _Server) -> None:
        with self._lock:
            self._idle.append((key, server))
            surplus = self._idle.pop(0)[1] if len(self._idle) > _MAX_IDLE else None
        if surplus is not None:
            self._forget(surplus)

    def _start(self, step: Step, job: Job, folder: Path, limits: Resources) -> _Server:
        server = _Server(self._owner, step, job, folder, limits)
        with self._lock:
            self._all.add(server)
        return server

    def _forget(self, server: _Server) -> None:
        with self._lock:
            self._all.discard(server)
        server.end()


class _Server:
    def __init__(self, owner: Owner, step: Step, job: Job, folder: Path, limits: Resources) -> None:
        from queue_runner.workers.runtimes.process import start

        self.usable = True
        self._temporary = Path(tempfile.mkdtemp(dir=owner.temporary))
        self._mark = uuid.uuid4().hex
        env = environment(job, self._temporary, self._temporary, limits, owner.lock, self._mark)
        with (folder / step.log).open("ab") as log:
            self._process = start(step, folder, env | dict(step.env), log.fileno(), piped=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def do(self, step: Step, limits: Resources, wall_time_s: float | None, stop: Stop) -> Outcome:
        from queue_runner.workers.runtimes.process import await_end

        assert step.request is not None
        started = time.monotonic()
        deadline = math.inf if wall_time_s is None else started + wall_time_s
        with suppress(BrokenPipeError):  # a server that died shows at its answer
            self._requests.write(struct.pack(">I", len(step.request)) + step.request)
            self._requests.flush()
        ended_by = await_end(
            self._answers.fileno(), self._process.pid, limits.memory_bytes, deadline, stop
        )
        answer = self._answer() if ended_by is None else None
        wall_s = time.monotonic() - started
        if answer is None:
            self.usable = False
            return Outcome(self._ended(ended_by), wall_s, 0.0, 0, ended_by)
        code, cpu_s, max_rss_bytes, self.usable = answer
        return Outcome(code, wall_s, cpu_s, max_rss_bytes)

    def _answer(self) -> tuple[int, float, int, bool] | None:
        head = self._answers.read(4)
        if len(head) < 4:
            return None
        body = self._answers.read(struct.unpack(">I", head)[0])
        try:
            code, cpu_s, max_rss_bytes, usable = msgpack.unpackb(body)
        except (ValueError, TypeError):
            return None
        return int(code), float(cpu_s), int(max_rss_bytes), bool(usable)

    def _ended(self, ended_by: str | None) -> int:
        from queue_runner.workers.runtimes.process import end_group

        watched = os.pidfd_open(self._process.pid)
        try:
            if ended_by is not None:
                end_group(watched, self._process.pid, at_once=ended_by == "out-of-memory")
        finally:
            os.close(watched)
        return self._process.wait()

    def end(self) -> None:
        """End the process and all that it left; idempotent."""
        self.usable = False
        with suppress(OSError):
            self._requests.close()
        signal_group(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._answers.close()
        kill_marked(MARK, self._mark)
        shutil.rmtree(self._temporary, ignore_errors=True)
