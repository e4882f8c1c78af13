"""A process that outlives its worker, ends what that has left running and removes what it has left lying.

A worker that is killed can do nothing itself, and may never be started again. Its end of a pipe tells
the janitor when it is gone. Should the janitor be killed as well, the next worker on this host tidies up.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from queue_runner.workers.runtimes import owner as owners

#: What the worker says while it lives.
_DISMISSED, _NOW = b".", b"!"


class Janitor:
    """containers: whether the worker may leave containers."""

    def __init__(self, lock: Path, *, containers: bool) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(lock), *(["containers"] if containers else [])],
            stdin=subprocess.PIPE,
            # whoever kills the worker's group or session means the worker
            start_new_session=True,
        )

    def close(self) -> None:
        """Let it remove the containers now; the worker does the rest itself. Idempotent."""
        self._say(_NOW)

    def leave(self) -> None:
        """Let it wait for a successor of the worker, and do its work if there is none in time."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        # it outlives this process, which waits for nothing more
        self._process.returncode = 0

    def dismiss(self) -> None:
        """Let it end, for nothing is left."""
        self._say(_DISMISSED)

    def _say(self, word: bytes) -> None:
        if self._process.returncode is None:
            self._process.communicate(word)


def main(lock: str, *containers: str) -> None:
    """Wait for the end of standard input, then tidy up after the owner of `lock`."""
    said = sys.stdin.buffer.read()
    if said == _DISMISSED or owners.await_successor(Path(lock)):
        return
    if containers:
        _remove_containers(lock)
    if said != _NOW:
        owners.tidy(Path(lock))


def _remove_containers(lock: str) -> None:
    from queue_runner.errors import QueueRunnerError
    from queue_runner.images.engine import open_engine
    from queue_runner.workers.runtimes.docker.leftovers import HOST, OWNER, remove

    try:
        with open_engine() as client:
            remove(client, {OWNER: lock, HOST: socket.gethostname()})
    except QueueRunnerError as error:
        sys.exit(f"queue-runner: what this worker may have left is for the next one here: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
