"""A limit: something done again and again until the time is over."""

from __future__ import annotations

import time
from abc import abstractmethod

from measure.contender import Contender, Effort, Figures

#: A message or row as large as those of small jobs.
BODY = bytes(range(256))[:200]


class Limit(Contender):
    @abstractmethod
    def burst(self) -> int:
        """Do some of it; returns how many."""

    def measure(self, workload: str, effort: Effort) -> Figures:
        self.burst()
        began = time.perf_counter()
        count = 0
        while time.perf_counter() - began < effort.seconds:
            count += self.burst()
        return {"count": count, "per_s": count / (time.perf_counter() - began)}
