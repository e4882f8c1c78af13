"""The end of a daemon whose broker may have gone before it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from queue_runner.brokers.base import Broker


def leave(broker: Broker, threads: Sequence[threading.Thread], within_s: float) -> None:
    """Wait for threads that end as soon as the broker answers them; it gets `within_s` seconds for that.

    A call waits for its server as long as its deadline says, which is longer than a supervisor waits for a
    daemon. So whoever still waits then is told that there is no connection any more.
    """
    end = time.monotonic() + within_s
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        broker.close()
        for thread in threads:
            thread.join()
