"""Settles what is finished, with its results, in as few calls as the broker's pace makes of it."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from queue_runner.brokers.base import Broker, Dead, Delivery, Message, Retry
from queue_runner.errors import BrokerUnavailable
from queue_runner.model import INBOX_QUEUE, Result
from queue_runner.wire import encode, encode_batch

log = logging.getLogger("queue_runner.worker")

_MAX_BATCH = 1000
#: Results of one message; a large one still travels alone.
_MAX_BODY_BYTES = 4 * 1024 * 1024
_CALL_S = 30.0
#: Seconds that a finished job waits for others: one call settles all that end within them.
_LINGER_S = 0.02


@dataclass(frozen=True, slots=True)
class Ending:
    """How a claim ends: done (`retry` and `dead` are None), given back, or dead; `result` to report."""

    delivery: Delivery
    result: Result | None = None
    retry: Retry | None = None
    dead: Dead | None = None


class Settler:
    """`settled` is called with the deliveries whose claims have ended."""

    def __init__(self, broker: Broker, settled: Callable[[Sequence[Delivery]], None]) -> None:
        self._broker, self._settled = broker, settled
        self._endings: queue.SimpleQueue[Ending | None] = queue.SimpleQueue()
        self._give_up_at: float | None = None

    def add(self, ending: Ending) -> None:
        self._endings.put(ending)

    def finish(self, within_s: float) -> None:
        """Ends `run` once everything is settled, or when the broker was not reached for so long."""
        self._give_up_at = time.monotonic() + within_s
        self._endings.put(None)

    def run(self) -> None:
        while batch := self._next_batch():
            endings = [ending for ending in batch if ending is not None]
            if endings:
                self._settle(endings)
            if len(endings) < len(batch):
                return

    def _next_batch(self) -> list[Ending | None]:
        batch = [self._endings.get()]
        until = time.monotonic() + _LINGER_S
        while len(batch) < _MAX_BATCH and batch[-1] is not None:
            try:
                batch.append(self._endings.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                break
        return batch

    def _settle(self, endings: Sequence[Ending]) -> None:
        publish = result_messages([e.result for e in endings if e.result is not None])
        while True:
            try:
                lost = self._broker.settle(
                    done=[e.delivery for e in endings if e.retry is None and e.dead is None],
                    retry=[e.retry for e in endings if e.retry is not None],
                    dead=[e.dead for e in endings if e.dead is not None],
                    publish=publish,
                    timeout_s=_CALL_S,
                )
            except BrokerUnavailable as error:
                if self._give_up_at is not None and time.monotonic() > self._give_up_at:
                    log.error("%d finished jobs not reported: %s", len(endings), error)
                    return
                log.warning("results wait for the broker: %s", error)
                continue
            if lost:
                log.warning("%d leases had lapsed before their results were reported", len(lost))
            self._settled([ending.delivery for ending in endings])
            return


def result_messages(results: Sequence[Result]) -> list[Message]:
    """Inbox messages of at most a few MiB each."""
    messages: list[Message] = []
    batch: list[Result] = []
    size = 0
    for result in results:
        length = len(encode(result)) if result.log_tail or result.artifacts else 500
        if batch and size + length > _MAX_BODY_BYTES:
            messages.append(Message(INBOX_QUEUE, encode_batch(batch)))
            batch, size = [], 0
        batch.append(result)
        size += length
    if batch:
        messages.append(Message(INBOX_QUEUE, encode_batch(batch)))
    return messages
