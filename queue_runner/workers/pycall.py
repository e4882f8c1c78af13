"""A process that calls Python functions, one request after another: the server behind kind `python`.

    python -m queue_runner.workers.pycall

It imports nothing of the worker. Frames as in `queue_runner.workers.runtimes.warm`; a request is a
msgpack map of `call` ("module:function"), `args`, `folder` (the job's work folder) and `log` (a file
in it). What the function returns is written to `RETURNED` in the work folder, as JSON.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import shutil
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgpack

RETURNED = ".returned.json"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main() -> None:
    requests, answers = _own_streams()
    _tie_to_parent()
    code: Path | None = None
    while True:
        head = requests.read(4)
        if len(head) < 4:
            return
        request = msgpack.unpackb(requests.read(struct.unpack(">I", head)[0]))
        if code is None:
            code = _code_folder(Path(request["folder"]))
        answer = msgpack.packb(_serve(request))
        answers.write(struct.pack(">I", len(answer)) + answer)
        answers.flush()


def _own_streams() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the worker, moved out of the reach of what jobs print and read."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return requests, answers


def _tie_to_parent() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # processes that a call leaves behind become our children, so that we can end them
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _code_folder(folder: Path) -> Path:
    """A copy of the study's files that outlives the first job's folder: modules keep their files."""
    code = Path(os.environ["TMPDIR"]) / "code"
    shutil.copytree(folder, code, symlinks=True)
    sys.path.insert(0, str(code))
    return code


def _serve(request: Mapping[str, Any]) -> tuple[int, float, int, bool]:
    folder = Path(request["folder"])
    os.chdir(folder)
    os.environ["HOME"] = str(folder)
    log = os.open(folder / request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    before = _cpu_s()
    code = _call(request, folder)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 1
    usage = resource.getrusage(resource.RUSAGE_SELF)
    # a thread that runs on would write into the next job's folder
    usable = threading.active_count() == 1 and not _end_children()
    os.chdir("/")
    return code, _cpu_s() - before, usage.ru_maxrss * 1024, usable


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _call(request: Mapping[str, Any], folder: Path) -> int:
    try:
        value = _function(request["call"])(**request["args"])
        if value is not None:
            (folder / RETURNED).write_text(json.dumps(_plain(value)))
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - whatever a user's function raises is the job's failure
        sys.stdout.flush()  # what was printed before belongs above the trace
        traceback.print_exc()
        return 1
    return 0


def _function(name: str) -> Callable[..., Any]:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    function: Callable[..., Any] = found
    return function


def _plain(value: Any) -> Any:
    """numpy numbers and arrays as plain ones."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return _plain(value.tolist()) if hasattr(value, "tolist") else value


def _end_children() -> bool:
    """End what the call left running; whether there was anything."""
    gc.collect(0)
    try:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    except (
        OSError
    ):  # a kernel without CONFIG_PROC_CHILDREN: the worker's search for the mark remains
        return False
    for child in children:
        try:
            os.kill(int(child), signal.SIGKILL)
            os.waitpid(int(child), 0)
        except OSError:
            continue
    return bool(children)


if __name__ == "__main__":
    main()
