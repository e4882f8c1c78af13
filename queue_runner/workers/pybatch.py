"""Many calls of one function in one request: what a warm process does with short jobs.

A call that writes nothing and prints nothing needs no folder of its own, so calls share one for as long
as it stays as it was made. The first that does write keeps it, and its worker looks at it as at any work
folder; the next call gets a new one.

A request is a map of `study`, `call`, `log`, `template` (a folder, or None), `folder` (where work folders
are to be made), `page` (a file) and `jobs`, a list of `[job id, args]`. The answer to each job is put into
the page as it ends, so that nothing is lost when a later one takes the process down: `[exit code, CPU
seconds, peak memory in bytes, started at, wall seconds, returned, work folder]`. returned: JSON, or None;
work folder: its name, or None where there is nothing to see.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack

from queue_runner.workers.serving import has_children
from queue_runner.workers.untouched import Watch

#: Of a page: how many answers it holds, how many bytes they take; how many calls have begun, whether others
#: may begin. The answers follow.
_HEAD, _BEGUN, _HELD, _ANSWERS = struct.Struct("<II"), 8, 12, 16
_NUMBER = struct.Struct("<I")
#: Seconds after which both sides have seen what the other one wrote before: a thousand times what it takes.
_SEEN_S = 0.01
_LENGTH = struct.Struct("<I")
#: Names of work folders.
FOLDERS = "call-{pid}-{number}"
#: In the work folder: what the function returned, as JSON, where it is not in the answer.
RETURNED = ".returned.json"
MAX_RETURNED = 16 * 1024
#: Bytes of the longest answer: what was returned, in UTF-8, and the rest.
_LONGEST = 4 * MAX_RETURNED + 1024
_PAGE_BYTES = 1024 * 1024

Answer = tuple[int, float, float, str | None, str | None]
#: Calls a function by its name: exit code, and what it returned, as JSON.
Call = Callable[[str, Mapping[str, Any]], tuple[int, str | None]]


class Page:
    """The answers of one request, in memory that worker and server share."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError` where there is no room for it."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # now, and not by a signal when it is written to
            os.posix_fallocate(handle, 0, _PAGE_BYTES)
            self._memory = mmap.mmap(handle, _PAGE_BYTES)
        finally:
            os.close(handle)

    def clear(self) -> None:
        self._memory[:_ANSWERS] = bytes(_ANSWERS)

    def begin(self, number: int) -> bool:
        """Note that this call (from 1) begins; False where it is not to."""
        # in this order, and `hold` in the other: one of the two sides sees the other's
        _NUMBER.pack_into(self._memory, _BEGUN, number)
        return not self._memory[_HELD]

    def hold(self) -> int:
        """Let no other call begin; returns how many have, or are just about to find that they may not."""
        self._memory[_HELD] = 1
        # `time.sleep` waits for a moment of the clock, and fails where a library lies about clocks
        threading.Event().wait(_SEEN_S)
        begun: int = _NUMBER.unpack_from(self._memory, _BEGUN)[0]
        return begun

    @property
    def full(self) -> bool:
        """Whether the longest answer might not fit."""
        used = _HEAD.unpack_from(self._memory, 0)[1]
        return bool(_ANSWERS + used + _LONGEST > _PAGE_BYTES)

    def add(self, answer: Answer) -> None:
        count, used = _HEAD.unpack_from(self._memory, 0)
        packed = msgpack.packb(answer)
        start = _ANSWERS + used
        _LENGTH.pack_into(self._memory, start, len(packed))
        self._memory[start + _LENGTH.size : start + _LENGTH.size + len(packed)] = packed
        # last: what is counted is whole
        _HEAD.pack_into(self._memory, 0, count + 1, used + _LENGTH.size + len(packed))

    def answers(self) -> Iterator[Answer]:
        count, _ = _HEAD.unpack_from(self._memory, 0)
        place = _ANSWERS
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(self._memory, place)
            place += _LENGTH.size
            yield tuple(msgpack.unpackb(self._memory[place : place + length]))
            place += length

    def close(self) -> None:
        self._memory.close()


class Pages:
    """Of one server, as requests name them: one is written to while the worker still reads another."""

    def __init__(self) -> None:
        self._pages: dict[str, Page] = {}

    def of(self, path: str) -> Page:
        if path not in self._pages:
            self._pages[path] = Page(Path(path))
        return self._pages[path]


class Folder:
    """The work folder of the next call: made when there is none, kept while nobody writes to it."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self._watch: Watch | None = None
        self._handle = -1

    def enter(self, request: Mapping[str, Any]) -> None:
        if self.path is None:
            self._make(request)
        os.fchdir(self._handle)

    def _make(self, request: Mapping[str, Any]) -> None:
        name = FOLDERS.format(pid=os.getpid(), number=time.monotonic_ns())
        path = Path(request["folder"]) / name
        path.mkdir(mode=0o700)
        if request["template"] is not None:
            shutil.copytree(request["template"], path, symlinks=True, dirs_exist_ok=True)
        log = os.open(path / request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        os.environ["HOME"] = os.environ["PWD"] = str(path)
        self.path, self._watch = path, Watch(path)
        self._handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def leave(self, *, wanted: bool) -> str | None:
        """The folder's name, where there is something to see in it (or it is `wanted`)."""
        assert self._watch is not None
        if not self._watch.look() and not wanted:
            return None
        assert self.path is not None
        name = self.path.name
        self._let_go()
        return name

    def _let_go(self) -> None:
        assert self._watch is not None
        self._watch.close()
        os.close(self._handle)
        self.path = self._watch = None

    def remove(self) -> None:
        if self.path is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            self._let_go()


def serve_batch(
    request: Mapping[str, Any],
    page: Page,
    folder: Folder,
    call: Call,
    end_children: Callable[[], bool],
) -> bool:
    """Do all jobs of a request, or as many as the page has room for, or those up to one that cannot be
    followed by another in this process. Returns whether the process may be used again.
    """
    usable = True
    os.environ["QUEUE_RUNNER_STUDY"] = request["study"]
    for number, (job, args) in enumerate(request["jobs"], 1):
        if not page.begin(number):
            break
        answer, usable = _one(request, folder, job, args, call, end_children)
        page.add(answer)
        if not usable or page.full:
            break
    os.chdir("/")
    return usable


def _one(
    request: Mapping[str, Any],
    folder: Folder,
    job: str,
    args: Mapping[str, Any],
    call: Call,
    end_children: Callable[[], bool],
) -> tuple[Answer, bool]:
    folder.enter(request)
    os.environ["QUEUE_RUNNER_JOB"] = job
    started_at, started = time.time(), time.monotonic()
    code, returned = call(request["call"], args)
    code = flushed(code)
    # a thread that runs on would write into the next job's folder
    usable = threading.active_count() == 1 and not (has_children() and end_children())
    if returned is not None and len(returned) > MAX_RETURNED:
        assert folder.path is not None
        (folder.path / RETURNED).write_text(returned)
        returned = None
    seen = folder.leave(wanted=code != 0 or not usable)
    return (code, started_at, time.monotonic() - started, returned, seen), usable


def flushed(code: int) -> int:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 1
    return code
