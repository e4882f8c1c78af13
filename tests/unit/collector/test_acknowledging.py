"""Which batches are brought onto the disk and acknowledged together."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue

from queue_runner.collector.acknowledging import Acknowledger, Taken
from queue_runner.model import Cancel

#: Longer than any test.
_EVER_S = 3600.0
Acknowledged = SimpleQueue[Sequence[Taken]]


def taken(items: int = 1, *told: Cancel) -> Taken:
    return Taken((), (), told, items)


@contextmanager
def running(acknowledged: Acknowledged) -> Iterator[Acknowledger]:
    acknowledger = Acknowledger(lambda: None, acknowledged.put, linger_s=_EVER_S)
    thread = threading.Thread(target=acknowledger.run)
    thread.start()
    try:
        yield acknowledger
    finally:
        acknowledger.finish()
        thread.join()


def test_a_few_wait_for_each_other_and_for_nobody_at_the_end() -> None:
    acknowledged: Acknowledged = SimpleQueue()
    few = [taken(), taken(2)]
    with running(acknowledged) as acknowledger:
        for each in few:
            acknowledger.add(each)
    assert acknowledged.get() == few


def test_what_workers_are_to_be_told_of_does_not_wait() -> None:
    acknowledged: Acknowledged = SimpleQueue()
    batches = [taken(), taken(1, Cancel("a-study", ()))]
    with running(acknowledged) as acknowledger:
        for each in batches:
            acknowledger.add(each)
        assert acknowledged.get() == batches


def test_who_brings_many_waits_until_they_are_acknowledged() -> None:
    acknowledged: Acknowledged = SimpleQueue()
    with running(acknowledged) as acknowledger:
        acknowledger.add(taken(1000))
        assert acknowledged.get_nowait() == [taken(1000)]
