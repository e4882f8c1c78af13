"""A process that starts programs, one after another: the server behind short jobs of kind `command`.

    python -m queue_runner.workers.spawner

To start a program from the worker itself, whose threads wait for each other, takes longer than `/bin/true`
runs. Requests and answers are those of `queue_runner.workers.pybatch`; a job's arguments are a map of `argv`
and `env`. As there, jobs that write and print nothing share a work folder.

One job runs at a time, in a session of its own, and whatever it has started and left has this process as its
parent in the end: what is not a child any more has ended, and no environment need be searched for a mark.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from queue_runner.workers.leavings import is_as_made, remove
from queue_runner.workers.pybatch import Answer, Folder, Page, Pages
from queue_runner.workers.runtimes.environment import MARK
from queue_runner.workers.runtimes.processes import kill_marked, orphans, signal_group
from queue_runner.workers.serving import (
    answer,
    each_request,
    has_children,
    own_streams,
    tie_to_parent,
)
from queue_runner.workers.untouched import Watch

#: The exit code of a job that could not be started here: the ordinary way tells why.
NOT_STARTED = 1 << 16
#: Seconds after which the rest of a request is left to the next one: jobs may be longer than expected.
_LONG_S = 0.1
#: What Python ignores, and a program does not expect to be ignored.
_DEFAULTS = (signal.SIGPIPE, signal.SIGXFSZ)
#: In a work folder before anything ran: what makes each job's folder worth a look.
METRICS, _LOGS = "metrics.json", "log."


class _Ending:
    """SIGTERM ends this process, or first the program that runs; no other is started after it.

    wanted: it came; passed: the program has got it.
    """

    def __init__(self) -> None:
        self.wanted = self.passed = False
        self._serving = False
        self._running: int | None = None
        signal.signal(signal.SIGTERM, self._on_term)

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        self.wanted = True
        if not self._serving:
            sys.exit()
        self._pass_on()

    def _pass_on(self) -> None:
        if self.wanted and self._running is not None:
            self.passed = True
            signal_group(self._running, signal.SIGTERM)

    @contextmanager
    def passed_on(self) -> Iterator[None]:
        self._serving = True
        yield
        self._serving = False

    def begin(self, pid: int) -> None:
        self._running = pid
        # one that came between its start and now did not know of it
        self._pass_on()

    def over(self) -> None:
        self._running = None


class _Temporary:
    """A folder that each job finds at the same place, and empty. To look into it after each of them takes
    longer than to ask the kernel whether there is anything to see.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._path.mkdir(mode=0o700)
        self._watch = Watch(self._path)

    def empty(self) -> None:
        if not self._watch.look():
            return
        self._watch.close()
        if not is_as_made(self._path):
            remove(self._path)
            self._path.mkdir(mode=0o700)
        self._watch = Watch(self._path)


class _Spawner:
    def __init__(self) -> None:
        self._defaults = _to_be_as_by_default()
        self._ending = _Ending()
        self._folder = Folder()
        self._made: Path | None = None
        self._has_more = False
        # programs cannot take us out of the work folder, as a function could
        self._inside = False
        # as the kernel takes it: to make that of all of it for each program takes a while
        self._env: dict[bytes, bytes] = {}
        # beside what is the worker's in the temporary folder of this process
        temporary = Path(os.environ["TMPDIR"]) / "tmp"
        os.environ["TMPDIR"] = str(temporary)
        self._temporary = _Temporary(temporary)

    def serve(self, request: Mapping[str, Any], page: Page) -> bool:
        """Do the jobs of a request, or as many as do not take long. Whether this may be used again."""
        os.environ["QUEUE_RUNNER_STUDY"] = request["study"]
        self._env = os.environb.copy()
        started, usable = time.monotonic(), True
        with self._ending.passed_on():
            for number, (job, args) in enumerate(request["jobs"], 1):
                if not page.begin(number):
                    break
                done, usable = self._one(request, job, args)
                if self._ending.passed:
                    # it was ended: what it came to says nothing
                    return False
                page.add(done)
                late = time.monotonic() - started > _LONG_S
                if not usable or self._ending.wanted or page.full or late:
                    break
        os.chdir("/")
        self._inside = False
        return usable and not self._ending.wanted

    def _one(
        self, request: Mapping[str, Any], job: str, args: Mapping[str, Any]
    ) -> tuple[Answer, bool]:
        started_at, started, usable = time.time(), time.monotonic(), True
        try:
            self._enter(request)
            self._env[b"QUEUE_RUNNER_JOB"] = os.fsencode(job)
            env = self._env
            if args["env"]:
                own = args["env"].items()
                env = env | {os.fsencode(name): os.fsencode(text) for name, text in own}
            pid = self._spawned(args["argv"], env)
        except (OSError, ValueError, TypeError):
            code = NOT_STARTED
        else:
            code = self._awaited(pid)
            usable = _end_what_is_left()
        wall_s = time.monotonic() - started
        self._temporary.empty()
        wanted = self._has_more or code not in (0, NOT_STARTED)
        seen = self._folder.leave(wanted=wanted) if self._folder.path is not None else None
        return (code, started_at, wall_s, None, seen), usable

    def _enter(self, request: Mapping[str, Any]) -> None:
        if not self._inside or self._folder.path is None:
            self._folder.enter(request)
            self._inside = True
        if self._folder.path is not self._made:
            assert self._folder.path is not None
            self._made = self._folder.path
            self._env[b"HOME"] = self._env[b"PWD"] = os.fsencode(self._made)
            names = set(os.listdir()) - {request["log"]}
            self._has_more = any(name == METRICS or name.startswith(_LOGS) for name in names)

    def _spawned(self, argv: Sequence[str], env: Mapping[bytes, bytes]) -> int:
        program = argv[0]
        if "/" not in program:
            program = _found(program, env[b"PATH"])
        elif not program.startswith("/"):
            assert self._made is not None
            program = str(self._made / program)
        argv = [program, *argv[1:]]
        return os.posix_spawn(program, argv, env, setsid=True, setsigdef=self._defaults)

    def _awaited(self, pid: int) -> int:
        self._ending.begin(pid)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        # it is not reaped yet, so its group is nobody else's
        self._ending.over()
        signal_group(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def close(self) -> None:
        self._folder.remove()


def _to_be_as_by_default() -> list[int]:
    """Signals that a program is to find so. It would find so all that are not ignored: but `posix_spawn` asks
    for each that it is not told of, in the new process, and that is sixty calls for each program.
    """
    return [
        number
        for number in signal.valid_signals()
        if number in _DEFAULTS or signal.getsignal(number) is not signal.SIG_IGN
    ]


@cache
def _found(name: str, path: bytes) -> str:
    found = shutil.which(name, path=os.fsdecode(path))
    if found is None:
        raise FileNotFoundError(name)
    return found


def _end_what_is_left() -> bool:
    """End what a job left running, wherever it went; whether that is certain."""
    while has_children():
        found = orphans()
        if found is None:
            # a kernel that does not tell of children
            kill_marked(MARK, os.environ[MARK])
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            return not has_children()
        for child in found:
            try:
                os.kill(child, signal.SIGKILL)
            except PermissionError:
                return False
            os.waitpid(child, 0)
    return True


def main() -> None:
    requests, answers = own_streams()
    tie_to_parent()
    pages = Pages()
    with closing(_Spawner()) as spawner:
        for request in each_request(requests):
            usable = spawner.serve(request, pages.of(request["page"]))
            answer(answers, 0, 0.0, 0, usable)
            if not usable:
                return


if __name__ == "__main__":
    main()
