"""What the servers behind warm processes have in common: their pipes, their parent, what a request leaves."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import msgpack

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def own_streams() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the worker, moved out of the reach of what jobs print and read."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return requests, answers


def tie_to_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # processes that a request leaves behind become our children, so that we can end them
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def each_request(requests: BinaryIO) -> Iterator[Mapping[str, Any]]:
    """Frames as in `queue_runner.workers.runtimes.warm`, until the worker closes its end."""
    while len(head := requests.read(4)) == 4:
        yield msgpack.unpackb(requests.read(struct.unpack(">I", head)[0]))


def answer(answers: BinaryIO, code: int, cpu_s: float, peak_bytes: int, usable: bool) -> None:
    packed = msgpack.packb((code, cpu_s, peak_bytes, usable))
    answers.write(struct.pack(">I", len(packed)) + packed)
    answers.flush()


def has_children() -> bool:
    # mostly there are none, and Python would make an exception of that, after each job
    return bool(_libc.waitid(os.P_ALL, 0, None, os.WEXITED | os.WNOHANG | os.WNOWAIT) != -1)
