"""When faults happen: at random, and the same again from a printed seed.

`QUEUE_RUNNER_FAULT_SEED` sets it; each test draws from numbers of its own, whichever tests run.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tests.faults.sweep import Sweep
from tests.integration.system import eventually

VARIABLE = "QUEUE_RUNNER_FAULT_SEED"
SEED = int(os.environ.get(VARIABLE) or random.SystemRandom().randrange(10**6))
#: Of what is left to do when the fault before is over.
_FIRST, _LAST = 0.05, 0.3
_JITTER_S = 0.3
T = TypeVar("T")


class Moments:
    def __init__(self, test: str) -> None:
        self.random = random.Random(f"{SEED} {test}")
        print(f"to have the same faults again: {VARIABLE}={SEED}")

    def during(
        self, sweeps: Sequence[Sweep], count: int, ended: Callable[[], int] | None = None
    ) -> Iterator[int]:
        """`count` moments, in the midst of sweeps whose jobs are ending.

        ended: how many of them have ended, where their ledgers do not tell.
        """
        jobs = sum(sweep.jobs for sweep in sweeps)
        ended = ended or (lambda: sum(sweep.ended() for sweep in sweeps))
        for number in range(count):
            done = ended()
            mark = done + self.random.uniform(_FIRST, _LAST) * (jobs - done)
            eventually(lambda mark=mark: ended() >= mark, within_s=120)  # type: ignore[misc]
            # what is random is when, so there is nothing to await
            time.sleep(self.random.uniform(0, _JITTER_S))
            assert ended() < jobs, "the sweep was over before its faults"
            yield number

    def choice(self, *of: T) -> T:
        return self.random.choice(of)
