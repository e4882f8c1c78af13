"""HyperQueue's local cluster: a server that keeps everything in memory, and runs programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

from measure.contender import Place
from measure.peers.base import Peer
from measure.tasks import TRUE


class HyperQueuePeer(Peer):
    packages: ClassVar[Sequence[str]] = ("hyperqueue",)

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._sent: tuple[Any, int] | None = None

    def start(self) -> None:
        self._cluster = LocalCluster(str(self.place.folder), WorkerConfig(self.place.processes))
        self._client = self._cluster.client()

    def stop(self) -> None:
        self._cluster.stop()

    def submit(self, task: str, count: int) -> None:
        if task != "true":
            raise ValueError(f"{task}: HyperQueue starts a new Python for every function")
        job = Job()
        for _ in range(count):
            job.program([TRUE], stdout=None, stderr=None)
        self._sent = self._client.submit(job), count

    def results(self) -> Sequence[Any]:
        """One that fails raises."""
        assert self._sent is not None
        job, count = self._sent
        self._client.wait_for_jobs([job])
        return [0] * count
