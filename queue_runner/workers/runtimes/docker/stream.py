"""What a container prints, as it prints it, and what it is sent on its standard input."""

from __future__ import annotations

import socket as sockets
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_STDOUT = 1


class Attached:
    """Attached to a container that has not started yet, so that nothing is missed.

    `sink(stream, data)` gets all of it, in a thread of its own; stream 1 is standard output.
    """

    def __init__(self, container: Any, sink: Callable[[int, bytes], None], *, stdin: bool) -> None:
        params = {"stdin": int(stdin), "stdout": 1, "stderr": 1, "stream": 1, "logs": 0}
        self._socket = container.attach_socket(params=params)
        self._raw = getattr(self._socket, "_sock", self._socket)
        self._response = getattr(self._socket, "_response", None)
        self._sink = sink
        self._closed = False
        self._thread = threading.Thread(target=self._read, name="docker-attached", daemon=True)
        self._thread.start()

    def send(self, data: bytes) -> None:
        """Give it this as all of its standard input."""
        self._raw.sendall(data)
        self._raw.shutdown(sockets.SHUT_WR)

    def _read(self) -> None:
        from docker.utils.socket import frames_iter

        frames: Any = frames_iter
        for stream, data in frames(self._socket, tty=False):
            self._sink(stream, data)

    def close(self, wait_s: float) -> None:
        """Wait for the last of it, which comes with the container's end; then let go. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._thread.join(wait_s)
        # ends the thread where the engine has not; it may have closed the socket already
        with suppress(OSError):
            self._raw.shutdown(sockets.SHUT_RDWR)
        self._thread.join(wait_s)
        if self._response is not None:
            self._response.close()
        self._socket.close()
        self._raw.close()
