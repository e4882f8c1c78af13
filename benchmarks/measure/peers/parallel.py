"""GNU parallel: no queue, one process that starts others; its job log is what makes results known."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence

from measure.cases import make_cases
from measure.contender import Place
from measure.peers.base import Peer
from measure.tasks import TRUE
from queue_runner.workers.openfoam.locate import environment

#: The same steps as the study's, in a folder that is there.
_CASE = "cd {} && blockMesh >log.blockMesh 2>&1 && icoFoam >log.icoFoam 2>&1"


class ParallelPeer(Peer):
    sends = False

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._inputs: Iterable[object] = ()
        self._command: Sequence[str] = ()

    def versions(self) -> dict[str, str]:
        told = subprocess.run(["parallel", "--version"], capture_output=True, text=True, check=True)
        return {"parallel": told.stdout.split()[2]}

    def prepare(self, task: str, count: int) -> None:
        self._inputs = range(count) if task == "true" else make_cases(self.place.work, count)

    def submit(self, task: str, count: int) -> None:
        """Nothing can be sent before it runs."""
        self._command = ["-n0", TRUE] if task == "true" else [_CASE]

    def results(self) -> Sequence[object]:
        log = self.place.folder / "joblog"
        options = ["--jobs", str(self.place.processes), "--joblog", str(log)]
        inputs = "".join(f"{each}\n" for each in self._inputs)
        subprocess.run(
            ["parallel", *options, *self._command],
            input=inputs.encode(),
            env={**os.environ, **environment()},
            check=True,
        )
        rows = log.read_text().splitlines()[1:]
        return [int(row.split("\t")[6]) for row in rows]
