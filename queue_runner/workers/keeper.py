"""Keeps a worker's leases alive, tells everyone how it is, and hears what is cancelled."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from queue_runner.brokers.base import Broker
from queue_runner.brokers.pauses import Pauses
from queue_runner.errors import BrokerRefused, BrokerUnavailable, KeysRefused, WireError
from queue_runner.model import TOPIC_CONTROL, TOPIC_WORKERS, Cancel, Heartbeat
from queue_runner.printing import Seldom
from queue_runner.signing import CONTROL, HEARTBEATS, UNSIGNED, Heard, Seal
from queue_runner.wire import decode, encode
from queue_runner.workers.claims import Claims

log = logging.getLogger("queue_runner.worker")

#: Seconds between heartbeats.
HEARTBEAT_S = 2.0
#: How late a listener notices that it is to end; each look takes a little from jobs that use all cores.
LISTEN_S = 0.5


class Keeper:
    """Two loops, each for a thread of its own; `stop` ends both."""

    def __init__(
        self,
        broker: Broker,
        claims: Claims,
        lease_s: float,
        heartbeat: Callable[[], Heartbeat],
        seal: Seal = UNSIGNED,
        listen_s: float = LISTEN_S,
    ) -> None:
        self._broker, self._claims, self._lease_s = broker, claims, lease_s
        self._listen_s = listen_s
        self._heartbeat, self._seal, self._heard = heartbeat, seal, Heard()
        self._seldom = Seldom()
        self._stop = threading.Event()
        self._now = threading.Event()

    def stop(self) -> None:
        self._stop.set()
        self._now.set()

    def tell(self) -> None:
        """Send a heartbeat soon, for something has changed."""
        self._now.set()

    def renew_and_tell(self) -> None:
        renew_at = time.monotonic() + self._lease_s / 3
        while not self._stop.is_set():
            self._broadcast()
            self._now.wait(min(HEARTBEAT_S, max(0.0, renew_at - time.monotonic())))
            self._now.clear()
            if time.monotonic() >= renew_at:
                renew_at = time.monotonic() + self._renew()
        self._broadcast()

    def _renew(self) -> float:
        """Renew everything; returns the seconds until it is to be done again."""
        held = self._claims.deliveries()
        if not held:
            return self._lease_s / 3
        try:
            lost = self._broker.renew(held, self._lease_s, timeout_s=self._lease_s / 3)
        except (BrokerUnavailable, BrokerRefused) as error:
            log.warning("leases cannot be renewed: %s", error)
            return min(1.0, self._lease_s / 10)
        for claim in self._claims.lose(lost):
            log.warning("%s: the lease was lost; another worker may run it", claim.job.id)
        return self._lease_s / 3

    def _broadcast(self) -> None:
        try:
            body = self._seal.seal(encode(self._heartbeat()), HEARTBEATS)
            self._broker.broadcast(TOPIC_WORKERS, body, timeout_s=2.0)
        except (BrokerUnavailable, KeysRefused) as error:
            log.debug("no heartbeat: %s", error)
        except BrokerRefused as error:
            if self._seldom.due(str(error)):
                log.error("no heartbeat: %s", error)

    def listen(self) -> None:
        """Hear cancels until `stop`."""
        pauses = Pauses()
        while not self._stop.is_set():
            try:
                self._listen(pauses)
            except BrokerUnavailable as error:
                log.warning("cancels cannot be heard: %s", error)
            except BrokerRefused as error:
                pause_s = pauses.longer_s()
                log.error("cancels cannot be heard, asked again in %g s: %s", pause_s, error)
                self._stop.wait(pause_s)

    def _listen(self, pauses: Pauses) -> None:
        with self._broker.subscribe([TOPIC_CONTROL]) as subscription:
            pauses.over()
            while not self._stop.is_set():
                heard = subscription.get(self._listen_s)
                if heard is not None:
                    self._hear(heard[1])

    def _hear(self, body: bytes) -> None:
        try:
            opened = self._seal.hear(body, CONTROL, self._heard)
            self._claims.cancel(decode(opened, Cancel))
        except WireError as error:
            if self._seldom.due(str(error)):
                log.warning("a broadcast that is no cancel was ignored: %s", error)
