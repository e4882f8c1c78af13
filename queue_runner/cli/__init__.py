"""The command line. Each module holds one group of commands: parse, call, render."""

from __future__ import annotations

import gc
import signal
import sys

__all__ = ["main"]

_DAEMONS = ("worker", "collector", "broker", "backup")


def main() -> None:
    """Entry point of the `queue-runner` program."""
    if any(word in _DAEMONS for word in sys.argv[1:2]):
        signal.signal(signal.SIGTERM, _end_before_it_began)
    # most of a short command is its imports, whose objects stay: looking through them costs a tenth of it
    gc.set_threshold(10_000)
    # only now, for it takes its time, and a daemon that is stopped meanwhile is to end in order, too
    from queue_runner.cli.app import main as run

    run()


def _end_before_it_began(number: int, frame: object) -> None:
    """What a daemon does until it has a way of its own to end. A second SIGTERM ends it at once."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit(0)
