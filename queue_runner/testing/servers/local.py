"""A throwaway server as processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from queue_runner.brokers import connect
from queue_runner.errors import BrokerUnavailable
from queue_runner.testing.handle import BrokerServerHandle
from queue_runner.testing.servers.recipes import Launch

_START_S = 120.0
_STOP_S = 60.0
_LOG_BYTES = 4000


class LocalServer(BrokerServerHandle):
    """The server is a process group of its own, for RabbitMQ is a script with children."""

    def __init__(self, launch: Launch, folder: Path) -> None:
        self._launch = launch
        self._log = folder / "server.log"
        self._helpers = [self._spawn(command) for command in launch.helpers]
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self._launch.url

    def start(self) -> None:
        self._server = self._spawn(self._launch.server)
        try:
            with connect(self.url) as broker:
                broker.server(timeout_s=_START_S)
        except BrokerUnavailable as error:
            raise BrokerUnavailable(f"{error}. The end of its log:\n{self.log()}") from error

    def stop(self) -> None:
        self._signal(signal.SIGTERM)
        self._ended()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._ended()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def log(self) -> str:
        return self._log.read_bytes()[-_LOG_BYTES:].decode(errors="replace")

    def close(self) -> None:
        if self._server is not None:
            self.kill()
        for helper in self._helpers:
            helper.kill()
            helper.wait()
        self._helpers = []

    def _spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        env = os.environ | self._launch.env
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _signal(self, number: signal.Signals) -> None:
        if self._server is not None:
            os.killpg(self._server.pid, number)

    def _ended(self) -> None:
        if self._server is not None:
            self._server.wait(_STOP_S)
            self._server = None
