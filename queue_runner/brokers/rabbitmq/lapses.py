"""Giving back what is not renewed in time, as long as this process lives to do it.

When it dies, RabbitMQ returns the deliveries as the connection closes; when it is frozen or cut off,
after two heartbeats.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from queue_runner.brokers.rabbitmq.settling import give_back_counted
from queue_runner.brokers.rabbitmq.taps import Claim, State, Taps

logger = logging.getLogger(__name__)

#: How often a claim that is being settled past its deadline is looked at again.
_AGAIN_S = 0.2


class Lapses:
    def __init__(self, taps: Taps) -> None:
        self._taps = taps
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, claims: Iterable[Claim], lease_s: float) -> None:
        """Have these lapse `lease_s` from now."""
        deadline = asyncio.get_running_loop().time() + lease_s
        for claim in claims:
            claim.deadline = deadline
        self._due_by(deadline)

    def _due_by(self, deadline: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(deadline, self._lapse)

    def _lapse(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for claim in self._taps.claims():
            if claim.state is State.HELD and claim.deadline <= now:
                logger.info("a lease on %s lapsed", claim.tap.queue)
                give_back_counted(claim)
            elif claim.state is State.HELD:
                self._due_by(claim.deadline)
            elif claim.state is State.ENDING:
                self._due_by(max(claim.deadline, now + _AGAIN_S))
