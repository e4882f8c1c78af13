"""Settles what is finished, with its results, in as few calls as the broker's pace makes of it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from queue_runner.brokers.base import Broker, Dead, Delivery, Message, Retry
from queue_runner.brokers.pauses import Pauses
from queue_runner.errors import BrokerRefused, BrokerUnavailable, KeysRefused, TooBig
from queue_runner.model import INBOX_QUEUE, Failure, Reason, Result, State
from queue_runner.signing import RESULTS, UNSIGNED, Seal
from queue_runner.wire import batch, encode

log = logging.getLogger("queue_runner.worker")

_MAX_BATCH = 1000
#: Results of one message; a large one still travels alone.
_MAX_BODY_BYTES = 4 * 1024 * 1024
_CALL_S = 30.0
#: Seconds that a finished job waits for others: one call settles all that end within them.
_LINGER_S = 0.02
#: How long where so many do, and of how many that is enough: a call costs about as much for four hundred
#: as for twenty, here, at the server, at the collector and at who follows the study.
_MANY, _LINGER_LONG_S, _ENOUGH = 10, 0.2, 400
#: Seconds before a message that the broker does not let us bury is offered again.
_BURIED_AGAIN_S = 300.0
#: Seconds between two looks whether there is a key by now that may sign.
_KEYS_S = 2.0
#: The same when the worker is about to end.
_LAST_PAUSE_S = 1.0


@dataclass(slots=True)  # not frozen: that takes longer, for every job
class Ending:
    """How a claim ends: done (`retry` and `dead` are None), given back, or dead; `result` to report.

    instead: another message in the place of the one that is done with.
    """

    delivery: Delivery
    result: Result | None = None
    retry: Retry | None = None
    dead: Dead | None = None
    instead: Message | None = None


class Settler:
    """`settled` is called with what has been settled; `held` tells how many claims are not yet."""

    def __init__(
        self,
        broker: Broker,
        settled: Callable[[Sequence[Ending]], None],
        held: Callable[[], int],
        seal: Seal = UNSIGNED,
    ) -> None:
        self._broker, self._settled, self._held, self._seal = broker, settled, held, seal
        #: Whether results are not taken, for want of a key or of a right: nothing more should be begun then.
        self.stalled = False
        self._pauses = Pauses()
        self._finishing = threading.Event()
        self._endings: queue.SimpleQueue[Ending | None] = queue.SimpleQueue()
        self._give_up_at: float | None = None

    def add(self, ending: Ending) -> None:
        self._endings.put(ending)

    def finish(self, within_s: float) -> None:
        """Ends `run` once everything is settled, or when the broker was not reached for so long."""
        self._give_up_at = time.monotonic() + within_s
        self._endings.put(None)
        self._finishing.set()

    def run(self) -> None:
        while group := self._next_batch():
            endings = [ending for ending in group if ending is not None]
            if endings:
                self._settle(endings)
            if len(endings) < len(group):
                return

    def _next_batch(self) -> list[Ending | None]:
        group, began = [self._endings.get()], time.monotonic()
        self._gather(group, began + _LINGER_S, _MAX_BATCH)
        if len(group) >= _MANY:
            self._gather(group, began + _LINGER_LONG_S, _ENOUGH)
        return group

    def _gather(self, group: list[Ending | None], until: float, most: int) -> None:
        # where nothing else is held, nothing else can end
        while len(group) < min(most, self._held()) and group[-1] is not None:
            try:
                group.append(self._endings.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                return

    def _settle(self, endings: Sequence[Ending]) -> None:
        results = [ending.result for ending in endings if ending.result is not None]
        publish: list[Message] | None = None
        while True:
            try:
                if publish is None:
                    publish = result_messages(results, self._seal)
                    publish += [e.instead for e in endings if e.instead is not None]
                lost = self._broker.settle(
                    done=[e.delivery for e in endings if e.retry is None and e.dead is None],
                    retry=[e.retry for e in endings if e.retry is not None],
                    dead=[e.dead for e in endings if e.dead is not None],
                    publish=publish,
                    timeout_s=_CALL_S,
                )
            except (BrokerRefused, TooBig, ValueError) as error:
                softer = [each for ending in endings for each in _softer(ending, error)]
                if softer != list(endings):
                    log.error("the broker refuses: %s", error)
                    endings, publish = softer, None
                    results = [ending.result for ending in endings if ending.result is not None]
                    continue
                if not isinstance(error, BrokerRefused):
                    raise
                if self._gives_up(endings, error):
                    return
                self._stall("results are refused, and wait", error, self._pauses.longer_s())
                continue
            except (BrokerUnavailable, KeysRefused) as error:
                if self._gives_up(endings, error):
                    return
                if isinstance(error, KeysRefused):
                    self._stall("results wait for a key", error, _KEYS_S)
                else:
                    log.warning("results wait for the broker: %s", error)
                continue
            self.stalled = False
            self._pauses.over()
            if lost:
                log.warning("%d leases had lapsed before their results were reported", len(lost))
            self._settled(endings)
            return

    def _gives_up(self, endings: Sequence[Ending], error: Exception) -> bool:
        if self._give_up_at is None or time.monotonic() <= self._give_up_at:
            return False
        log.error("%d finished jobs not reported: %s", len(endings), error)
        return True

    def _stall(self, what: str, error: Exception, pause_s: float) -> None:
        self.stalled = True
        log.error("%s; tried again in %g s: %s", what, pause_s, error)
        if self._finishing.wait(pause_s):
            time.sleep(min(pause_s, _LAST_PAUSE_S))


def _softer(ending: Ending, error: Exception) -> list[Ending]:
    """An ending that the broker may take instead of one that it refused.

    What cannot be buried is offered again, late, so that nothing is dropped, and nobody is kept busy.
    """
    if ending.dead is not None:
        log.error(
            "not dead-lettered, and offered again in %g s: %s", _BURIED_AGAIN_S, ending.dead.reason
        )
        retry = Retry(ending.delivery, delay_s=_BURIED_AGAIN_S, counted=False)
        return [replace(ending, dead=None, retry=retry)]
    result = ending.result
    if isinstance(error, TooBig) and result is not None and len(encode(result)) > _MAX_BODY_BYTES:
        failure = Failure(Reason.STORE, f"its result cannot be sent: {error}")
        short = replace(
            result, state=State.FAILED, failure=failure, metrics={}, artifacts=(), log_tail=""
        )
        return [replace(ending, result=short)]
    return [ending]


def result_messages(results: Sequence[Result], seal: Seal = UNSIGNED) -> list[Message]:
    """Inbox messages of at most a few MiB each; a larger result travels alone. Raises `KeysRefused`."""
    messages: list[Message] = []
    bodies: list[bytes] = []
    size = 0
    for body in map(encode, results):
        if bodies and size + len(body) > _MAX_BODY_BYTES:
            messages.append(_sealed(bodies, seal))
            bodies, size = [], 0
        bodies.append(body)
        size += len(body)
    if bodies:
        messages.append(_sealed(bodies, seal))
    return messages


def _sealed(bodies: Sequence[bytes], seal: Seal) -> Message:
    return Message(INBOX_QUEUE, seal.seal(batch(bodies), RESULTS))
