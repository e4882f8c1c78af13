"""The collector: takes results from the broker into the database, and passes cancels on.

A batch of inbox messages is applied in one transaction and acknowledged after its commit. If the
process dies in between, the batch comes again and changes nothing (see `rules`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from queue_runner.brokers.base import Broker, Dead, Delivery
from queue_runner.collector.database import Database
from queue_runner.errors import BrokerUnavailable, CollectorUnavailable, WireError
from queue_runner.model import (
    INBOX_QUEUE,
    TOPIC_CONTROL,
    TOPIC_WORKERS,
    Cancel,
    CancelRequest,
    Heartbeat,
    InboxItem,
    JobsSubmitted,
    Result,
    RetryRequest,
    StudyRecord,
)
from queue_runner.wire import decode, decode_batch, encode

log = logging.getLogger("queue_runner.collector")

_INBOX_TYPES = (Result, StudyRecord, JobsSubmitted, CancelRequest, RetryRequest)
_BATCH = 500
_LEASE_S = 60.0
_WAIT_S = 0.5
#: Seconds between repetitions of the cancels that still matter, for workers that missed them.
_REPEAT_CANCELS_S = 10.0
_LISTEN_S = 0.5
_RETRY_S = 0.5


@dataclass(slots=True)
class Counters:
    """What /metrics tells: written by the service's own threads only."""

    batches: int = 0
    items: int = 0
    dead: int = 0
    database_s: float = 0.0


class Collector:
    """`run` blocks until `drain` is called, from any thread or signal handler."""

    def __init__(self, broker: Broker, database: Database) -> None:
        self._broker, self._database = broker, database
        self._draining = threading.Event()
        self._failed: BaseException | None = None
        self.counters = Counters()

    def drain(self) -> None:
        self._draining.set()

    def run(self) -> None:
        """Collect until drained. Raises what ended one of its threads, if anything did."""
        listener = threading.Thread(
            target=self._guarded(self._listen), name="collector-listener", daemon=True
        )
        listener.start()
        try:
            self._collect()
        finally:
            self._draining.set()
            listener.join()
        if self._failed is not None:
            raise self._failed

    def _guarded(self, target: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                target()
            except BaseException as error:
                log.critical("the collector's listener failed; it stops", exc_info=True)
                self._failed = error
                self._draining.set()

        return run

    # -- inbox -------------------------------------------------------------------------------------

    def _collect(self) -> None:
        repeat_at = time.monotonic()
        while not self._draining.is_set():
            if time.monotonic() >= repeat_at:
                self._tell(self._active_cancels())
                repeat_at = time.monotonic() + _REPEAT_CANCELS_S
            try:
                deliveries = self._broker.lease([INBOX_QUEUE], _BATCH, _WAIT_S, lease_s=_LEASE_S)
            except BrokerUnavailable as error:
                log.warning("no results: %s", error)
                continue
            if deliveries:
                self._take_in(deliveries)

    def _take_in(self, deliveries: Sequence[Delivery]) -> None:
        done: list[Delivery] = []
        dead: list[Dead] = []
        items: list[InboxItem] = []
        for delivery in deliveries:
            try:
                items += decode_batch(delivery.body, _INBOX_TYPES)
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
        self._acknowledge(done, dead)
        self._tell(told)

    def _apply(self, items: Sequence[InboxItem], held: Sequence[Delivery]) -> list[Cancel] | None:
        """Apply a batch, again and again while the database is away; None when drained meanwhile."""
        renew_at = time.monotonic() + _LEASE_S / 3
        while True:
            started = time.monotonic()
            try:
                told = self._database.apply(items)
            except CollectorUnavailable as error:
                log.error("results wait for the database: %s", error)
            else:
                self.counters.database_s += time.monotonic() - started
                return told
            if self._draining.wait(_RETRY_S):
                return None  # the leases lapse, and the next collector gets the batch
            if time.monotonic() >= renew_at:
                self._renew(held)
                renew_at = time.monotonic() + _LEASE_S / 3

    def _renew(self, held: Sequence[Delivery]) -> None:
        try:
            self._broker.renew(held, _LEASE_S)
        except BrokerUnavailable as error:
            log.warning("leases of results cannot be renewed: %s", error)

    def _acknowledge(self, done: Sequence[Delivery], dead: Sequence[Dead]) -> None:
        try:
            self._broker.settle(done=done, dead=dead)
        except BrokerUnavailable as error:
            # they come again, and change nothing then
            log.warning("results are stored but not acknowledged: %s", error)

    def request(self, request: CancelRequest | RetryRequest) -> None:
        """Apply a request that came over HTTP, and tell the workers. Raises `CollectorUnavailable`."""
        self._tell(self._database.apply([request]))

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
                self._broker.broadcast(TOPIC_CONTROL, encode(cancel))
            except BrokerUnavailable as error:
                log.warning("a cancel is told again later: %s", error)

    def _listen(self) -> None:
        while not self._draining.is_set():
            try:
                with self._broker.subscribe([TOPIC_WORKERS]) as subscription:
                    while not self._draining.is_set():
                        heard = subscription.get(_LISTEN_S)
                        if heard is not None:
                            self._hear(heard[1])
            except BrokerUnavailable as error:
                log.warning("workers cannot be heard: %s", error)

    def _hear(self, body: bytes) -> None:
        try:
            new = self._database.heard([decode(body, Heartbeat)])
        except WireError as error:
            log.warning("a broadcast that is no heartbeat was ignored: %s", error)
        except CollectorUnavailable as error:
            log.warning("a heartbeat was not noted: %s", error)
        else:
            if new:
                self._tell(self._active_cancels())
