"""The end of a daemon whose broker may have gone before it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from queue_runner.brokers.base import Broker

log = logging.getLogger(__name__)

#: Seconds for those who waited to hear that the connection was closed.
_HEARD_S = 2.0


def leave(broker: Broker, threads: Sequence[threading.Thread], within_s: float) -> None:
    """Wait for threads that end as soon as the broker answers them; it gets `within_s` seconds for that.

    A call waits for its server as long as its deadline says, which is longer than a supervisor waits for a
    daemon. So whoever still waits then is told that there is no connection any more. Who does not hear it,
    for the system's resolver of names waits for an answer as long as it likes, is left behind: a daemon
    thread, whose process may end.
    """
    if _ended(threads, within_s):
        return
    broker.close()
    if not _ended(threads, _HEARD_S):
        names = ", ".join(thread.name for thread in threads if thread.is_alive())
        log.debug("left behind, as they wait for the system: %s", names)


def _ended(threads: Sequence[threading.Thread], within_s: float) -> bool:
    end = time.monotonic() + within_s
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
