"""A round trip through a ZeroMQ router in another process, a window of them under way at a time."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import ClassVar

import zmq

from measure.contender import Place
from measure.limits.base import BODY, Limit

_WINDOW = 100
_BURST = 2000


def _echo(address: str) -> None:
    router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    router.bind(address)
    while True:
        router.send_multipart(router.recv_multipart())


class ZeromqEchoLimit(Limit):
    packages: ClassVar[Sequence[str]] = ("pyzmq",)

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._echo: BaseProcess | None = None

    def start(self) -> None:
        address = f"ipc://{self.place.folder}/echo"
        self._echo = get_context("spawn").Process(target=_echo, args=(address,), daemon=True)
        self._echo.start()
        self._socket.connect(address)

    def stop(self) -> None:
        self._context.destroy(linger=0)
        if self._echo is not None:
            self._echo.kill()
            self._echo.join()

    def burst(self) -> int:
        for _ in range(_WINDOW):
            self._socket.send(BODY)
        for _ in range(_BURST - _WINDOW):
            self._socket.recv()
            self._socket.send(BODY)
        for _ in range(_WINDOW):
            self._socket.recv()
        return _BURST
