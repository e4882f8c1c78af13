"""Dask distributed: a scheduler that keeps everything in memory; nothing survives its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from distributed import Client, Future, LocalCluster

from measure import tasks
from measure.contender import Place
from measure.peers.base import Peer


def _true(number: int) -> int:
    return tasks.true()


class DaskPeer(Peer):
    packages: ClassVar[Sequence[str]] = ("distributed", "dask", "tornado", "msgpack")

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._sent: list[Future] = []

    def start(self) -> None:
        self._cluster = LocalCluster(
            n_workers=self.place.processes,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=str(self.place.folder),
        )
        self._client = Client(self._cluster)

    def stop(self) -> None:
        self._sent = []
        self._client.close()
        self._cluster.close()

    def submit(self, task: str, count: int) -> None:
        function = tasks.noop if task == "noop" else _true
        self._sent = self._client.map(function, range(count), pure=False)

    def results(self) -> Sequence[Any]:
        values: Sequence[Any] = self._client.gather(self._sent)
        return values
