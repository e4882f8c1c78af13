"""Ports for servers that are about to start, which no two processes of this machine are given.

A server may take ten seconds until it listens, and whoever else looks meanwhile finds its port free. So
each process takes from a hundred ports of its own. It claims them by the name of a socket, which the system
gives to one at a time, and takes back when the process has gone, however it ended.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

from queue_runner.errors import BrokerUnavailable

#: Below those that the system gives to connections: none takes one before its server has started.
_FIRST, _LAST = 15000, 32000
_COUNT = 100


def free_port() -> int:
    """A port that nobody listens on, and that is given to this process alone, and has not been lately.

    Raises `BrokerUnavailable` where there is none.
    """
    # a child that was forked takes from its own
    for port in itertools.islice(_turn(os.getpid()), _COUNT):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise BrokerUnavailable(f"on each of the {_COUNT} ports of this process somebody listens")


@cache
def _turn(pid: int) -> Iterator[int]:
    """Ports that no other process has claimed, again and again."""
    firsts = range(_FIRST, _LAST, _COUNT)
    for first in random.sample(firsts, len(firsts)):
        with socket.socket(socket.AF_UNIX) as claim, suppress(OSError):
            # no file: https://man7.org/linux/man-pages/man7/unix.7.html, abstract sockets
            claim.bind(f"\0queue-runner ports from {first}")
            claim.detach()  # for as long as this process lives
            return itertools.cycle(range(first, first + _COUNT))
    raise BrokerUnavailable(
        f"all ports from {_FIRST} to {_LAST} are claimed by other test runs: wait until they end"
    )
