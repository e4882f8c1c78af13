"""How a worker is, told by itself to who asks on this machine: a Unix socket in its own folder.

Whoever connects gets one line of JSON. The folder is that below the scratch folder which goes with its
worker, however that ends.
"""

from __future__ import annotations

import json
import os
import socketserver
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import AF_UNIX, socket

from queue_runner.workers.runtimes.owner import folders

_NAME = "health.sock"
_ANSWER_S = 10.0


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """The same file by a path that fits in the 108 bytes that a socket's address has (unix(7))."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class HealthServer:
    """`run` answers until `close`."""

    def __init__(self, folder: Path, report: Callable[[], Mapping[str, object]]) -> None:
        self._path = folder / _NAME

        class Answer(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with suppress(BrokenPipeError):
                    self.wfile.write(json.dumps(report()).encode() + b"\n")

        with _short(self._path) as address:
            self._server = socketserver.UnixStreamServer(address, Answer)

    def run(self) -> None:
        self._server.serve_forever(poll_interval=0.5)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._path.unlink(missing_ok=True)


def ask(scratch: Path) -> Iterator[Mapping[str, object]]:
    """What each worker with this scratch folder says of itself; who does not answer says nothing."""
    for path in sorted(folder / _NAME for folder in folders(scratch)):
        with socket(AF_UNIX) as asking, suppress(OSError, ValueError):
            asking.settimeout(_ANSWER_S)
            with _short(path) as address:
                asking.connect(address)
            with asking.makefile() as answer:
                yield json.loads(answer.readline())
