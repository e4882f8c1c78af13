"""The harness's end of a contender's process: calls with deadlines, and nothing left running afterwards."""

from __future__ import annotations

import ctypes
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from measure.contender import Effort, Figures, Place

_HERE = Path(__file__).parents[1]
_START_S = 120.0
_STOP_S = 60.0
_LOG_BYTES = 1500
_PR_SET_CHILD_SUBREAPER = 36


class ContenderFailed(Exception):
    """What it said, and the end of what it printed."""


class Session:
    """One contender under one Python. Not thread-safe.

    Its process and what that started, wherever it has gone since, are ended when the session is left.
    """

    def __init__(
        self, python: Path, where: str, place: Place, env: Mapping[str, str], log: Path
    ) -> None:
        self._log = log
        self._answers, theirs = os.pipe()
        command = [str(python), "-m", "measure.driver", where, str(theirs)]
        path = os.pathsep.join([str(_HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                cwd=place.folder,
                env={**os.environ, **env, "PYTHONPATH": path, "PATH": _path(python)},
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                pass_fds=[theirs],
            )
        os.close(theirs)
        self._pending = b""
        self._say({**asdict(place), "folder": str(place.folder)})

    def start(self) -> dict[str, str]:
        """Returns the versions of what it is made of."""
        versions: dict[str, str] = self._call({"call": "start"}, _START_S)
        return versions

    def measure(self, workload: str, effort: Effort, within_s: float) -> Figures:
        figures: Figures = self._call(
            {"call": "measure", "workload": workload, "effort": asdict(effort)}, within_s
        )
        return figures

    def stop(self) -> None:
        self._call({"call": "stop"}, _STOP_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        end_all(_family(self._process.pid))
        self._process.wait()
        os.close(self._answers)

    def _say(self, call: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(call).encode() + b"\n")
        self._process.stdin.flush()

    def _call(self, call: Mapping[str, Any], within_s: float) -> Any:
        try:
            self._say(call)
            said = json.loads(self._line(within_s))
        except (BrokenPipeError, EOFError):
            raise ContenderFailed(f"ended in {call['call']}{self._tail()}") from None
        except TimeoutError:
            raise ContenderFailed(
                f"{call['call']}: no answer in {within_s:g} s{self._tail()}"
            ) from None
        if "error" in said:
            raise ContenderFailed(f"{said['error']}{self._tail()}")
        return said["answer"]

    def _line(self, within_s: float) -> bytes:
        """Raises `TimeoutError`, `EOFError`."""
        end = time.monotonic() + within_s
        while b"\n" not in self._pending:
            if not select.select([self._answers], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError
            data = os.read(self._answers, 65536)
            if not data:
                raise EOFError
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _tail(self) -> str:
        text = self._log.read_bytes()[-_LOG_BYTES:].decode(errors="replace").strip()
        return f"; the end of {self._log}:\n{text}" if text else ""


def _path(python: Path) -> str:
    """The programs of its virtual environment first: Parsl looks there for its own."""
    return os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)])


def adopt_orphans() -> None:
    """What a contender's daemons leave behind becomes a child of this process; `nothing_left` ends it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


@contextmanager
def nothing_left() -> Iterator[None]:
    """End every process that was started inside and is still there at the end."""
    before = {each.pid for each in psutil.Process().children()}
    try:
        yield
    finally:
        left = [each for each in psutil.Process().children() if each.pid not in before]
        end_all([process for each in left for process in _family(each.pid)])


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end_all(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=_STOP_S)
