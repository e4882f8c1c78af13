"""The collector: takes results from the broker into the database, and passes cancels on.

A batch of inbox messages is applied in one transaction, which everybody sees then; it is acknowledged when it
is on the disk. If the process dies in between, the batch comes again and changes nothing (see `rules`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from queue_runner.brokers.base import Broker, Dead, Delivery, Retry
from queue_runner.brokers.leaving import leave
from queue_runner.brokers.pauses import Pauses
from queue_runner.collector.acknowledging import Acknowledger, Taken
from queue_runner.collector.database import Database
from queue_runner.errors import (
    BrokerRefused,
    BrokerUnavailable,
    CollectorUnavailable,
    KeysRefused,
    WireError,
)
from queue_runner.model import (
    INBOX_QUEUE,
    TOPIC_CONTROL,
    TOPIC_WORKERS,
    Cancel,
    CancelRequest,
    Heartbeat,
    InboxItem,
    JobsSubmitted,
    PointsAdded,
    Result,
    RetryRequest,
    StudyRecord,
)
from queue_runner.printing import Seldom
from queue_runner.signing import (
    CONTROL,
    HEARTBEATS,
    REQUESTS,
    RESULTS,
    UNSIGNED,
    Heard,
    Seal,
    for_collector,
)
from queue_runner.wire import decode, decode_batch, encode

log = logging.getLogger("queue_runner.collector")

#: Who says what: a worker's signature is none of a client's, and the other way round.
_SAYS: Mapping[str, tuple[type, ...]] = {
    RESULTS: (Result,),
    REQUESTS: (StudyRecord, JobsSubmitted, PointsAdded, CancelRequest, RetryRequest),
}
_INBOX_TYPES = (*_SAYS[RESULTS], *_SAYS[REQUESTS])
_BATCH = 500
#: Seconds that what a collector has received stays with it, should it die.
LEASE_S = 60.0
_WAIT_S = 1.0
#: Seconds between repetitions of the cancels that still matter, for workers that missed them.
_REPEAT_CANCELS_S = 10.0
#: How late a listener notices that it is to end; each look takes a little from jobs that use all cores.
_LISTEN_S = 0.5
_RETRY_S = 0.5
#: How late a signal may be noticed that the kernel gave to another thread, for the main one had one already.
_SIGNAL_S = 1.0
#: Seconds for what waits for the broker when all is to end: what is not acknowledged then comes again.
_LEAVE_S = 3.0
#: Seconds before a message that the broker does not let us bury is offered again.
_BURIED_AGAIN_S = 300.0


@dataclass(slots=True)
class Counters:
    """What /metrics tells: written by the service's own threads only."""

    batches: int = 0
    items: int = 0
    dead: int = 0
    database_s: float = 0.0


class Collector:
    """`run` blocks until `drain` is called, from any thread or signal handler."""

    def __init__(
        self,
        broker: Broker,
        database: Database,
        seal: Seal = UNSIGNED,
        lease_s: float = LEASE_S,
        wait_s: float = _WAIT_S,
    ) -> None:
        """wait_s: how long one call waits for results, and how late it is noticed that they are to end.

        Raises `KeysRefused` where the keys are not a collector's."""
        seal.check(for_collector())
        self._broker, self._database, self._seal = broker, database, seal
        self._lease_s, self._wait_s = lease_s, wait_s
        self._heard, self._seldom = Heard(), Seldom()
        self._acknowledger = Acknowledger(database.flush, self._finish)
        self._draining = threading.Event()
        self._failed: BaseException | None = None
        self.counters = Counters()

    def drain(self) -> None:
        self._draining.set()

    def run(self) -> None:
        """Collect until drained. Raises what ended one of its threads, if anything did."""
        listener = self._thread("listener", self._listen)
        acknowledger = self._thread("acknowledger", self._acknowledger.run)
        inbox = self._thread("inbox", self._collect)
        try:
            # where another thread got the signal, this one notices when it runs for whatever reason
            while not self._draining.wait(_SIGNAL_S):
                continue
        finally:
            self._draining.set()
            leave(self._broker, [inbox], _LEAVE_S)
            self._acknowledger.finish()
            leave(self._broker, [acknowledger, listener], _LEAVE_S)
        if self._failed is not None:
            raise self._failed

    def _thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                target()
            except BaseException as error:
                log.critical("the collector's %s failed; it stops", name, exc_info=True)
                self._failed = error
                self._draining.set()

        thread = threading.Thread(target=guarded, name=f"collector-{name}", daemon=True)
        thread.start()
        return thread

    # -- inbox -------------------------------------------------------------------------------------

    def _collect(self) -> None:
        repeat_at, pauses = time.monotonic(), Pauses()
        while not self._draining.is_set():
            if time.monotonic() >= repeat_at:
                self._tell(self._active_cancels())
                repeat_at = time.monotonic() + _REPEAT_CANCELS_S
            try:
                deliveries = self._broker.lease(
                    [INBOX_QUEUE], _BATCH, self._wait_s, lease_s=self._lease_s
                )
            except BrokerUnavailable as error:
                log.warning("no results: %s", error)
                continue
            except BrokerRefused as error:
                pause_s = pauses.longer_s()
                log.error("no results, asked again in %g s: %s", pause_s, error)
                self._draining.wait(pause_s)
                continue
            pauses.over()
            if deliveries:
                self._take_in(deliveries)

    def _take_in(self, deliveries: Sequence[Delivery]) -> None:
        done: list[Delivery] = []
        dead: list[Dead] = []
        items: list[tuple[InboxItem, bytes]] = []
        for delivery in deliveries:
            try:
                items += self._read(delivery.body)
                done.append(delivery)
            except WireError as error:
                log.error("a message in the inbox is dead-lettered: %s", error)
                dead.append(Dead(delivery, str(error)))
        told = self._apply(items, deliveries)
        if told is None:
            return
        self.counters.batches += 1
        self.counters.items += len(items)
        self.counters.dead += len(dead)
        self._acknowledger.add(Taken(done, dead, told, len(items)))

    def _finish(self, batches: Sequence[Taken]) -> None:
        done = [delivery for taken in batches for delivery in taken.done]
        self._acknowledge(done, [letter for taken in batches for letter in taken.dead])
        self._tell([cancel for taken in batches for cancel in taken.told])

    def _read(self, message: bytes) -> list[tuple[InboxItem, bytes]]:
        """Raises `WireError`."""
        purpose, body = self._seal.open_any(message, _SAYS)
        return decode_batch(body, _INBOX_TYPES if purpose is None else _SAYS[purpose])

    def _apply(
        self, items: Sequence[tuple[InboxItem, bytes]], held: Sequence[Delivery]
    ) -> list[Cancel] | None:
        """Apply a batch, again and again while the database is away; None when drained meanwhile."""
        renew_at = time.monotonic() + self._lease_s / 3
        while True:
            started = time.monotonic()
            try:
                told = self._database.apply(
                    [item for item, _ in items], [body for _, body in items]
                )
            except CollectorUnavailable as error:
                log.error("results wait for the database: %s", error)
            else:
                self.counters.database_s += time.monotonic() - started
                return told
            if self._draining.wait(_RETRY_S):
                return None  # the leases lapse, and the next collector gets the batch
            if time.monotonic() >= renew_at:
                self._renew(held)
                renew_at = time.monotonic() + self._lease_s / 3

    def _renew(self, held: Sequence[Delivery]) -> None:
        try:
            self._broker.renew(held, self._lease_s)
        except (BrokerUnavailable, BrokerRefused) as error:
            log.warning("leases of results cannot be renewed: %s", error)

    def _acknowledge(
        self, done: Sequence[Delivery], dead: Sequence[Dead] = (), late: Sequence[Retry] = ()
    ) -> None:
        try:
            self._broker.settle(done=done, dead=dead, retry=late)
        except BrokerUnavailable as error:
            # they come again, and change nothing then
            log.warning("results are stored but not acknowledged: %s", error)
        except BrokerRefused as error:
            if not dead:
                log.error("results are stored but not acknowledged: %s", error)
                return
            log.error("not dead-lettered, and offered again in %g s: %s", _BURIED_AGAIN_S, error)
            late = [Retry(each.delivery, _BURIED_AGAIN_S, counted=False) for each in dead]
            self._acknowledge(done, late=late)

    def request(self, request: CancelRequest | RetryRequest) -> None:
        """Apply a request that came over HTTP, and tell the workers. Raises `CollectorUnavailable`."""
        told = self._database.apply([request])
        # there is no message that would come again
        self._database.flush()
        self._tell(told)

    # -- workers -----------------------------------------------------------------------------------

    def _active_cancels(self) -> list[Cancel]:
        try:
            return self._database.active_cancels()
        except CollectorUnavailable as error:
            log.warning("cancels cannot be repeated: %s", error)
            return []

    def _tell(self, cancels: Sequence[Cancel]) -> None:
        for cancel in cancels:
            try:
                self._broker.broadcast(TOPIC_CONTROL, self._seal.seal(encode(cancel), CONTROL))
            except (BrokerUnavailable, BrokerRefused, KeysRefused) as error:
                log.warning("a cancel is told again later: %s", error)

    def _listen(self) -> None:
        pauses = Pauses()
        while not self._draining.is_set():
            try:
                with self._broker.subscribe([TOPIC_WORKERS]) as subscription:
                    pauses.over()
                    while not self._draining.is_set():
                        heard = subscription.get(min(_LISTEN_S, self._wait_s))
                        if heard is not None:
                            self._hear(heard[1])
            except BrokerUnavailable as error:
                log.warning("workers cannot be heard: %s", error)
            except BrokerRefused as error:
                pause_s = pauses.longer_s()
                log.error("workers cannot be heard, asked again in %g s: %s", pause_s, error)
                self._draining.wait(pause_s)

    def _hear(self, body: bytes) -> None:
        try:
            opened = self._seal.hear(body, HEARTBEATS, self._heard)
            new = self._database.heard([decode(opened, Heartbeat)])
        except WireError as error:
            if self._seldom.due(str(error)):
                log.warning("a broadcast that is no heartbeat was ignored: %s", error)
        except CollectorUnavailable as error:
            log.warning("a heartbeat was not noted: %s", error)
        else:
            if new:
                self._tell(self._active_cancels())
