"""SIGTERM ends a daemon whichever of its threads the kernel gives it to.

It is the main one's, unless another signal waits for that already, as when a child ends at the same moment;
and Python runs its handlers in the main one only, which may be waiting.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from pathlib import Path

import pytest

from tests.integration.system import eventually, running_system

_TGKILL = {"x86_64": 234, "aarch64": 131}[platform.machine()]


@pytest.mark.parametrize("daemon", ["worker", "collector"])
def test_a_signal_that_another_thread_gets_drains(
    tmp_path: Path, redis_url: str, daemon: str
) -> None:
    with running_system(tmp_path, redis_url) as system:
        eventually(lambda: "queues default" in system.log("worker"))
        process = system.daemons[daemon]
        threads = sorted(int(each) for each in os.listdir(f"/proc/{process.pid}/task"))
        assert threads[0] == process.pid
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.syscall(_TGKILL, process.pid, threads[-1], signal.SIGTERM) == 0
        assert process.wait(30) == 0
