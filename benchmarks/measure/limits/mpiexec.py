"""The MPI kernel by bare mpiexec, one run after the other: that of the MPI which a worker would pick."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from measure.cases import KERNEL, KERNEL_ARGUMENTS, RANKS, make_kernel
from measure.contender import Place
from measure.peers.base import Peer
from queue_runner.workers.mpi import find

_AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


class MpiexecLimit(Peer):
    sends = False

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._mpi = find()
        self._folder = Path()
        self._count = 0

    def start(self) -> None:
        self._folder = make_kernel(self.place.work)

    def versions(self) -> dict[str, str]:
        return {self._mpi.flavour: self._mpi.version}

    def submit(self, task: str, count: int) -> None:
        """Nothing can be sent before it runs."""
        self._count = count

    def results(self) -> Sequence[object]:
        command = [self._mpi.launcher, "-n", str(RANKS), KERNEL, *KERNEL_ARGUMENTS]
        env = {**os.environ, **_AS_ROOT}
        runs = (
            subprocess.run(command, cwd=self._folder, env=env, check=True, capture_output=True)
            for _ in range(self._count)
        )
        return [run.returncode for run in runs]
