"""Warm servers: processes that do one step after another, so that a short call need not start one.

A step with a `request` names the server to start (its `argv`); the request goes to its stdin as a
frame of four bytes of length (big-endian) and content, the answer comes from its stdout in the same
form: msgpack `[exit code, CPU seconds, peak memory in bytes, may be used again]`. See
`queue_runner.workers.pycall`.
"""

from __future__ import annotations

import math
import os
import select
import signal
import struct
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgpack

from queue_runner.model import Job, Resources
from queue_runner.unpacking import unpack
from queue_runner.workers.disk import DiskWatch
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.leavings import open_log, remove
from queue_runner.workers.pybatch import FOLDERS, Answer, Page
from queue_runner.workers.runtimes.base import Called, Calling, Calls, Outcome, Stop
from queue_runner.workers.runtimes.environment import MARK, environment
from queue_runner.workers.runtimes.idle import Idle
from queue_runner.workers.runtimes.owner import Owner
from queue_runner.workers.runtimes.processes import kill_marked, signal_group

#: Exit code, CPU seconds, peak memory in bytes, may be used again.
_Answered = tuple[int, float, int, bool]
_MOST_ANSWER = 4096
_END_S = 1.0
#: Seconds after which calls that have not begun are left to others; together they were to take a fifth of it.
_LONG_S = 0.25

#: Seconds after which a server that nobody asked is ended.
IDLE_S = 60.0
#: Idle servers that are kept: as many as are at work at once, of two studies, and of more on a small
#: machine. Each takes the memory of its imports, and two of the user's inotify instances.
_MAX_IDLE = max(16, 2 * (os.cpu_count() or 1))

#: What has to be equal for a server to take a step: program, bundle, environment and cores.
Key = tuple[object, ...]


class WarmServers:
    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._lock = threading.Lock()
        self._idle: Idle[_Server] = Idle("warm-servers", _MAX_IDLE, IDLE_S, self._forget)
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
        with self._taken(key, step, job, folder, limits) as server:
            disk = DiskWatch(limits.disk_bytes, [folder, server.temporary])
            return server.do(step, limits, disk, wall_time_s, stop)

    def ask(self, calls: Calls, job: Job, stop: Stop) -> Calling:
        """See `Runtime.ask`."""
        step, limits = calls.step, job.resources
        # not its study: one that is submitted for a point or two finds the process of the last one, which has
        # the same code
        key: Key = (step.argv, calls.template, calls.function, limits)
        server = self._idle.take(key) or self._start(step, job, calls.folder, limits)
        with self._kept_track_of(server):
            return _Calling(self, key, server, job.study, calls, stop)

    @contextmanager
    def _taken(
        self, key: Key, step: Step, job: Job, folder: Path, limits: Resources
    ) -> Iterator[_Server]:
        server = self._idle.take(key) or self._start(step, job, folder, limits)
        with self._kept_track_of(server):
            yield server
        self.give_back(key, server)

    @contextmanager
    def _kept_track_of(self, server: _Server) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # nobody knows what it is about
            self._forget(server)
            raise

    def give_back(self, key: Key, server: _Server) -> None:
        if server.usable:
            self._idle.put(key, server)
        else:
            self._forget(server)

    def close(self) -> None:
        self._idle.close()
        with self._lock:
            servers = list(self._all)
        for server in servers:
            self._forget(server)

    def _start(self, step: Step, job: Job, folder: Path, limits: Resources) -> _Server:
        server = _Server(self._owner, step, job, folder, limits)
        with self._lock:
            self._all.add(server)
        return server

    def _forget(self, server: _Server) -> None:
        with self._lock:
            self._all.discard(server)
        server.end()


class _Calling(Calling):
    def __init__(
        self, servers: WarmServers, key: Key, server: _Server, study: str, calls: Calls, stop: Stop
    ) -> None:
        self._servers, self._key, self._server = servers, key, server
        self._study, self._calls, self._stop = study, calls, stop
        self._behind: _Calling | None = None
        self._told: list[Called] | None = None
        self._where, self._page = server.take_page()
        server.ask(_batch(calls, study, self._where))

    def follow(self, calls: Calls, stop: Stop) -> Calling | None:
        if self._behind is not None or self._told is not None:
            return None
        asked = (self._servers, self._key, self._server, self._study, calls, stop)
        self._behind = _Calling(*asked)
        return self._behind

    def called(self) -> list[Called]:
        if self._told is None:
            try:
                self._told = self._server.called(self._calls, self._page, self._stop, self._hold)
            finally:
                self._leave()
        return self._told

    def _hold(self) -> None:
        # the first always counts: its server may still be starting
        self._calls.held(max(self._page.hold(), 1))
        if self._behind is not None:
            self._behind._calls.held(self._behind._page.hold())

    def _leave(self) -> None:
        # where it failed to be asked, nobody knows what the server is about
        self._server.usable = self._server.usable and self._told is not None
        self._server.put_page(self._where, self._page)
        if self._behind is not None:
            if self._server.usable:
                return
            self._behind._told = _answered(self._behind._page, self._behind._calls)
        self._servers.give_back(self._key, self._server)


class _Server:
    def __init__(self, owner: Owner, step: Step, job: Job, folder: Path, limits: Resources) -> None:
        from queue_runner.workers.runtimes.process import start

        self.usable = True
        #: What has been read and belongs to no answer yet.
        self._said = b""
        self._pages: list[Page] = []
        self._free_pages: list[tuple[Path, Page]] = []
        self.temporary = Path(tempfile.mkdtemp(dir=owner.temporary))
        self._mark = uuid.uuid4().hex
        env = environment(job, self.temporary, self.temporary, limits, owner.lock, self._mark)
        with open_log(folder / step.log) as log:
            self._process = start(step, folder, env | dict(step.env), log.fileno(), piped=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def do(
        self,
        step: Step,
        limits: Resources,
        disk: DiskWatch,
        wall_time_s: float | None,
        stop: Stop,
    ) -> Outcome:
        assert step.request is not None
        started = time.monotonic()
        deadline = math.inf if wall_time_s is None else started + wall_time_s
        self.ask(step.request)
        ended_by, answer = self._answer(limits.memory_bytes, deadline, stop, disk)
        wall_s = time.monotonic() - started
        if answer is None:
            self.usable = False
            return Outcome(self._ended(ended_by), wall_s, 0.0, 0, ended_by)
        code, cpu_s, max_rss_bytes, self.usable = answer
        return Outcome(code, wall_s, cpu_s, max_rss_bytes)

    def take_page(self) -> tuple[Path, Page]:
        """One that has no answers in it, and where it is."""
        if not self._free_pages:
            where = self.temporary / f"page-{len(self._pages)}"
            self._pages.append(Page(where))
            return where, self._pages[-1]
        where, page = self._free_pages.pop()
        page.clear()
        return where, page

    def put_page(self, where: Path, page: Page) -> None:
        self._free_pages.append((where, page))

    def called(
        self, calls: Calls, page: Page, stop: Stop, hold: Callable[[], None]
    ) -> list[Called]:
        """What came of the calls that were asked for first."""
        if self._takes_long(stop):
            hold()
        ended_by, answer = self._answer(None, math.inf, stop)
        self.usable = answer is not None and answer[3]
        called = _answered(page, calls)
        if answer is None:
            code = self._ended(ended_by)
            if ended_by is None:
                called.append(self._taken_down(code, called, calls))
        return called

    def _takes_long(self, stop: Stop) -> bool:
        from queue_runner.workers.runtimes.process import await_end

        if _missing(self._said) <= 0:
            return False
        deadline = time.monotonic() + _LONG_S
        where, pid = self._answers.fileno(), self._process.pid
        return await_end(where, pid, None, deadline, stop) == "wall-time"

    def _taken_down(self, code: int, called: list[Called], calls: Calls) -> Called:
        """The call that its process ended with: what it wrote is in the folder that no answer names."""
        known = {each.folder for each in called}
        found = calls.folder.glob(FOLDERS.format(pid=self._process.pid, number="*"))
        left = next((path for path in found if path not in known), None)
        return Called(code, 0.0, time.time(), None, left)

    def ask(self, request: bytes) -> None:
        with suppress(BrokenPipeError):  # a server that died shows at its answer
            self._requests.write(struct.pack(">I", len(request)) + request)
            self._requests.flush()

    def _answer(
        self, memory_bytes: int | None, deadline: float, stop: Stop, disk: DiskWatch | None = None
    ) -> tuple[str | None, _Answered | None]:
        """Why the process has to be ended, if it has; else its answer, None for one that makes no sense.

        What runs in the process is a user's, and may write anything, or only half of it.
        """
        from queue_runner.workers.runtimes.process import await_end

        where = self._answers.fileno()
        disk = disk or DiskWatch(None, ())
        while _missing(self._said) > 0 and len(self._said) < _MOST_ANSWER:
            ended_by = await_end(where, self._process.pid, memory_bytes, deadline, stop, disk)
            if ended_by is not None:
                return ended_by, None
            more = os.read(where, _MOST_ANSWER - len(self._said))
            if not more:
                break
            self._said += more
        end = len(self._said) + min(0, _missing(self._said))
        answer, self._said = self._said[4:end], self._said[end:]
        return None, unpacked(answer)

    def _ended(self, ended_by: str | None) -> int:
        from queue_runner.workers.runtimes.process import AT_ONCE, end_group

        watched = os.pidfd_open(self._process.pid)
        try:
            if ended_by is not None or not _ends(watched):
                end_group(watched, self._process.pid, at_once=ended_by in AT_ONCE)
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
        for page in self._pages:
            page.close()
        kill_marked(MARK, self._mark)
        remove(self.temporary)


def _missing(frame: bytes) -> int:
    """How many bytes there have to be for the next part of a frame; negative: of what comes behind it."""
    if len(frame) < 4:
        return 4 - len(frame)
    length: int = struct.unpack_from(">I", frame)[0]
    return 4 + length - len(frame)


def unpacked(answer: bytes) -> _Answered | None:
    """What a process says of a call; None where it says nothing that makes sense."""
    try:
        code, cpu_s, max_rss_bytes, usable = unpack(answer)
        return int(code), float(cpu_s), int(max_rss_bytes), bool(usable)
    except (ValueError, TypeError, OverflowError):
        return None


def _ends(watched: int) -> bool:
    """Whether a process that has said its last ends by itself."""
    poller = select.poll()
    poller.register(watched, select.POLLIN)
    return bool(poller.poll(_END_S * 1000))


def _batch(calls: Calls, study: str, page: Path) -> bytes:
    request = {
        "study": study,
        "call": calls.function,
        "log": calls.step.log,
        "template": None if calls.template is None else str(calls.template),
        "folder": str(calls.folder),
        "page": str(page),
        "jobs": calls.jobs,
    }
    packed: bytes = msgpack.packb(request)
    return packed


def _answered(page: Page, calls: Calls) -> list[Called]:
    return [_called(each, calls.folder) for each in page.answers()]


def _called(answer: Answer, folder: Path) -> Called:
    code, started_at, wall_s, returned, name = answer
    # the process is a user's: what it says may not lead elsewhere
    where = None if name is None else folder / Path(name).name
    return Called(code, wall_s, started_at, returned, where)
