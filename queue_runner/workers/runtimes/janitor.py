"""A process that outlives its worker, and removes the containers that one has left.

A worker that is killed can remove nothing itself, and may never be started again. Its end of a pipe tells
the janitor when it is gone.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path


class Janitor:
    """The process that outlives the worker. Its end of a pipe tells it when that has ended."""

    def __init__(self, lock: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "queue_runner.workers.runtimes.janitor", str(lock)],
            stdin=subprocess.PIPE,
            # whoever kills the worker's group or session means the worker
            start_new_session=True,
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main(lock: str) -> None:
    """Wait for the end of standard input, then remove what belongs to `lock`."""
    sys.stdin.buffer.read()
    from queue_runner.errors import QueueRunnerError
    from queue_runner.images.engine import open_engine
    from queue_runner.workers.runtimes.docker.leftovers import HOST, OWNER, remove

    try:
        with open_engine() as client:
            remove(client, {OWNER: lock, HOST: socket.gethostname()})
    except QueueRunnerError as error:
        sys.exit(f"queue-runner: what this worker may have left is for the next one here: {error}")


if __name__ == "__main__":
    main(sys.argv[1])
