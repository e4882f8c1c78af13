"""CPU time by process: on one machine that is what a rate is made of, and it does not depend on who else
is busy as a rate does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

SPAWNER, PROGRAMS = "spawner", "programs"
#: What a command line has in it, and how the process is called here; the first that fits.
_NAMES = (
    ("queue_runner.workers.pycall", "function"),
    ("queue_runner.workers.spawner", SPAWNER),
    ("redis-server", "server"),
    ("beam", "server"),
    ("queue-runner broker", "server"),
    ("queue-runner collector", "collector"),
    ("queue-runner worker", "worker"),
    ("queue-runner submit", "client"),
)
#: Seconds of user and system time of a process by itself.
Read = Callable[[psutil.Process], float]


class CpuTime:
    """Of all processes below this one that belong to the system, from now on.

    `look` often enough: what a process took after the last look before its end is not known.
    """

    def __init__(self) -> None:
        self._began: dict[tuple[str, int, float], float] = {}
        self._last: dict[tuple[str, int, float], float] = {}
        self.look()
        self._began = dict(self._last)

    def look(self) -> None:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error), process.oneshot():
                name = name_of(process.cmdline())
                if name is not None:
                    times = process.cpu_times()
                    this = process.pid, process.create_time()
                    self._last[name, *this] = times.user + times.system
                    if name == SPAWNER:
                        # what has ended below it: each is too short to be seen
                        ended_s = times.children_user + times.children_system
                        self._last[PROGRAMS, *this] = ended_s

    def us_per_job(self, count: int) -> dict[str, float]:
        """Microseconds that each part took for one of `count` jobs; and all of them together, where the
        broker's server is below this process, too.
        """
        sums: dict[str, float] = defaultdict(float)
        for key, seconds in self._last.items():
            sums[key[0]] += 1e6 * (seconds - self._began.get(key, 0.0)) / count
        return {**sums, "all": sum(sums.values())} if "server" in sums else dict(sums)


def name_of(command: Sequence[str]) -> str | None:
    """None for a process that is no part of what is measured, such as a shell that started one."""
    # an interpreter and paths stand before what was called
    line = " ".join(word.rpartition("/")[2] for word in command)
    return next((name for part, name in _NAMES if part in line), None)
