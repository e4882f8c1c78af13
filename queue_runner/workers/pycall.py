"""A process that calls Python functions, one request after another: the server behind kind `python`.

    python -m queue_runner.workers.pycall

It imports nothing of the worker. Frames as in `queue_runner.workers.runtimes.warm`; a request is a
msgpack map of `call` ("module:function"), `args`, `folder` (the job's work folder) and `log` (a file
in it). What the function returns is written to `RETURNED` in the work folder, as JSON. A request with
`jobs` is one for many calls: see `queue_runner.workers.pybatch`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from queue_runner.workers.pybatch import RETURNED, Folder, Pages, flushed, serve_batch
from queue_runner.workers.serving import answer, each_request, own_streams, tie_to_parent

_ENCODE = json.JSONEncoder().encode
_TEXT, _SCALARS = frozenset({str}), frozenset({int, float, str, bool, type(None)})


def main() -> None:
    requests, answers = own_streams()
    tie_to_parent()
    code: Path | None = None
    shared, pages = Folder(), Pages()
    for request in each_request(requests):
        if code is None:
            code = _code_folder(request)
        if "jobs" in request:
            usable = serve_batch(request, pages.of(request["page"]), shared, _call, _end_children)
            answer(answers, 0, 0.0, 0, usable)
        else:
            answer(answers, *_serve(request))
    shared.remove()


def _code_folder(request: Mapping[str, Any]) -> Path:
    """A copy of the study's files that outlives the first job's folder: modules keep their files."""
    code = Path(os.environ["TMPDIR"]) / "code"
    source = request["template"] if "jobs" in request else request["folder"]
    if source is None:
        code.mkdir()
    else:
        shutil.copytree(source, code, symlinks=True)
    sys.path.insert(0, str(code))
    return code


def _serve(request: Mapping[str, Any]) -> tuple[int, float, int, bool]:
    folder = Path(request["folder"])
    os.chdir(folder)
    os.environ["HOME"] = os.environ["PWD"] = str(folder)
    log = os.open(folder / request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    before = _cpu_s()
    code, returned = _call(request["call"], request["args"])
    if returned is not None:
        (folder / RETURNED).write_text(returned)
    code = flushed(code)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    # a thread that runs on would write into the next job's folder
    usable = threading.active_count() == 1 and not _end_children()
    os.chdir("/")
    return code, _cpu_s() - before, usage.ru_maxrss * 1024, usable


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _call(name: str, args: Mapping[str, Any]) -> tuple[int, str | None]:
    """Exit code, and what the function returned, as JSON; None where that was None."""
    try:
        value = _function(name)(**args)
        return 0, None if value is None else _ENCODE(value if _is_plain(value) else _plain(value))
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None), None
    except BaseException:  # noqa: BLE001 - whatever a user's function raises is the job's failure
        sys.stdout.flush()  # what was printed before belongs above the trace
        traceback.print_exc()
        return 1, None


@cache
def _function(name: str) -> Callable[..., Any]:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    function: Callable[..., Any] = found
    return function


def _is_plain(value: Any) -> bool:
    """Whether it is a map of texts to numbers and the like, as most are, and needs no look at each."""
    return (
        type(value) is dict
        and _SCALARS.issuperset(map(type, value.values()))
        and _TEXT.issuperset(map(type, value))
    )


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
