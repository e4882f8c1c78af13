"""What a container prints, as it prints it, and what it is sent on its standard input."""

from __future__ import annotations

import select
import socket as sockets
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from queue_runner.workers.runtimes.docker.events import let_go

#: Seconds for a thread to end whose socket was shut down.
_END_S = 10.0
_HEAD = struct.Struct(">BxxxL")
_MOST_HEARD = 4096


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
        self._thread.join(_END_S)
        if self._response is not None:
            self._response.close()
        self._socket.close()
        self._raw.close()


class Followed:
    """Attached to a container that runs, or has run: all that it has printed, and what it goes on to print.

    answers: only its standard output, as stream 1; else all as stream 2, in its order.
    """

    def __init__(
        self, container: Any, sink: Callable[[int, bytes], None], *, answers: bool
    ) -> None:
        self._sink, self._number, self._closed = sink, 1 if answers else 2, False
        self._stream = container.logs(stdout=True, stderr=not answers, stream=True, follow=True)
        self._thread = threading.Thread(target=self._read, name="docker-followed", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for data in self._stream:
            self._sink(self._number, data)

    def close(self, wait_s: float) -> None:
        """Wait for the last of it, which comes with the container's end; then let go. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._thread.join(wait_s)
        self._stream.close()
        self._thread.join(_END_S)
        let_go(self._stream)


class Talk:
    """Attached to a container that has not started yet: what it is told, and what it says on its standard
    output. A socket to poll, and no thread.
    """

    def __init__(self, container: Any) -> None:
        params = {"stdin": 1, "stdout": 1, "stderr": 0, "stream": 1, "logs": 0}
        self._socket = container.attach_socket(params=params)
        self._raw = getattr(self._socket, "_sock", self._socket)
        self._response = getattr(self._socket, "_response", None)
        self._data = b""
        self._closed = False
        #: Whether it has said its last.
        self.ended = False

    def fileno(self) -> int:
        number: int = self._raw.fileno()
        return number

    def readable(self) -> bool:
        """Whether `hear` returns at once."""
        poller = select.poll()
        poller.register(self._raw, select.POLLIN)
        return bool(poller.poll(0))

    def say(self, data: bytes) -> None:
        # of one that has just ended, `hear` tells
        with suppress(BrokenPipeError, ConnectionResetError):
            self._raw.sendall(data)

    def hear(self) -> bytes:
        """What it has said since; waits where that is nothing."""
        try:
            data = self._raw.recv(_MOST_HEARD)
        except ConnectionResetError:
            data = b""
        if not data:
            self.ended = True
        self._data += data
        said = b""
        # the engine puts before each piece the number of its stream and its length (its API's "Attach")
        while len(self._data) >= _HEAD.size:
            stream, length = _HEAD.unpack_from(self._data)
            if len(self._data) < _HEAD.size + length:
                break
            piece, self._data = self._data[_HEAD.size :][:length], self._data[_HEAD.size + length :]
            said += piece if stream == 1 else b""
        return said

    def close(self) -> None:
        """Let go; a container whose standard input that was ends by itself when it is idle. Idempotent."""
        if self._closed:
            return
        self._closed = self.ended = True
        with suppress(OSError):
            self._raw.shutdown(sockets.SHUT_RDWR)
        if self._response is not None:
            self._response.close()
        self._socket.close()
        self._raw.close()
