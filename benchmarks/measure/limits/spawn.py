"""posix_spawn and wait of /bin/true, in as many processes as there are to be workers."""

from __future__ import annotations

from multiprocessing import get_context

from measure import tasks
from measure.contender import Place
from measure.limits.base import Limit

_BURST = 50


def _spawn_some(number: int) -> int:
    for _ in range(_BURST):
        if tasks.true():
            raise RuntimeError("/bin/true failed")
    return _BURST


class SpawnLimit(Limit):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._pool = get_context("spawn").Pool(place.processes)

    def burst(self) -> int:
        # several for each process, so that none waits for the others' last one
        return sum(self._pool.imap_unordered(_spawn_some, range(8 * self.place.processes)))

    def stop(self) -> None:
        self._pool.terminate()
        self._pool.join()
