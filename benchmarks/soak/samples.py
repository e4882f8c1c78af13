"""Memory and open files of each daemon while it lives, and straight lines through them."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import numpy as np
import psutil
from psutil import Process

from tests.faults.rig import Rig

#: Seconds, resident MiB, open files.
Sample = tuple[float, float, int]

_EVERY_S = 0.5
#: Of a daemon's life: what it grows to while it begins is no leak.
_WARM_S = 15.0
_LEAST = 20
#: A line through a few minutes is no proof of a leak; so much more at its end, and steeper than its
#: spread, is.
_CLEAR_MIB, _CLEAR_FILES = 60.0, 60


class Sampler(threading.Thread):
    """`samples` by daemon and process."""

    def __init__(self, system: Rig) -> None:
        super().__init__(daemon=True)
        self.samples: defaultdict[tuple[str, int], list[Sample]] = defaultdict(list)
        self._system, self._over = system, threading.Event()

    def run(self) -> None:
        while not self._over.wait(_EVERY_S):
            for name, daemon in list(self._system.daemons.items()):
                self._sample(name, daemon.pid, _itself)
            if (pid := self._system.server.pid) is not None:
                self._sample(self._system.server.name, pid, _largest)

    def _sample(self, name: str, pid: int, chosen: Callable[[Process], Process]) -> None:
        # it may have ended in between
        with suppress(psutil.Error):
            process = chosen(Process(pid))
            rss = process.memory_info().rss / 1024**2
            sample = (time.monotonic(), rss, process.num_fds())
            self.samples[name, process.pid].append(sample)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self.join()


def _itself(process: Process) -> Process:
    return process


def _largest(process: Process) -> Process:
    """Itself, or what it began: an image's first process may be a script that starts the server."""
    return max(
        [process, *process.children(recursive=True)], key=lambda each: each.memory_info().rss
    )


def fits(samples: Mapping[tuple[str, int], Sequence[Sample]]) -> list[dict[str, Any]]:
    """For the longest life of each daemon: slopes per hour, each with its standard error."""
    longest: dict[str, Sequence[Sample]] = {}
    for (name, _), life in samples.items():
        if len(life) > len(longest.get(name, ())):
            longest[name] = life
    return [_fit(name, life) for name, life in sorted(longest.items())]


def _fit(name: str, life: Sequence[Sample]) -> dict[str, Any]:
    begun = life[0][0]
    warm = [sample for sample in life if sample[0] - begun >= _WARM_S]
    used = np.array(warm if len(warm) >= _LEAST else life)
    hours = (used[:, 0] - begun) / 3600
    rss, files = _line(hours, used[:, 1]), _line(hours, used[:, 2])
    span = float(hours[-1] - hours[0])
    grows = len(warm) >= _LEAST and (
        _clearly(rss, span, _CLEAR_MIB) or _clearly(files, span, _CLEAR_FILES)
    )
    return {
        "daemon": name,
        "lived_s": round(float(life[-1][0] - begun), 1),
        "samples": len(used),
        "rss_mib": round(float(used[-1, 1]), 1),
        "files": int(used[-1, 2]),
        "rss_mib_per_h": rss,
        "files_per_h": files,
        "grows": bool(grows),
    }


def _line(hours: Any, values: Any) -> tuple[float, float]:
    """Slope, and its standard error; both 0 where there is too little for a line."""
    if len(hours) < 3:
        return 0.0, 0.0
    (slope, _), covariance = np.polyfit(hours, values, 1, cov=True)
    return round(float(slope), 2), round(float(np.sqrt(covariance[0, 0])), 2)


def _clearly(line: tuple[float, float], span_h: float, much: float) -> bool:
    slope, error = line
    return slope * span_h > much and slope > 3 * error
