"""Holding deliveries for longer than the server likes.

RabbitMQ closes the channel of a delivery that has not been acknowledged within `consumer_timeout`, by
default 30 minutes, and gives it to somebody else while its job is running; nothing in AMQP extends
that. So what has been held for `hold_s` is swapped: a copy, carrying the number of the next attempt, is
published to a queue of our own that we consume. When the copy is here, with its clock at zero, the
claim moves over to it and the old delivery is acknowledged. If we die, the copy returns to our queue,
which has a short message TTL and dead-letters to the lane: the job runs again, its attempt counted.
https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence

from queue_runner.brokers.rabbitmq.envelope import Letter, job_properties
from queue_runner.brokers.rabbitmq.io_thread import IoThread
from queue_runner.brokers.rabbitmq.lost import Lost
from queue_runner.brokers.rabbitmq.publisher import Publisher
from queue_runner.brokers.rabbitmq.taps import Claim, State, Tap, Taps
from queue_runner.brokers.rabbitmq.topology import Lane
from queue_runner.errors import BrokerRefused

logger = logging.getLogger(__name__)


class Holding:
    def __init__(self, io: IoThread, taps: Taps, publisher: Publisher, hold_s: float) -> None:
        self._io = io
        self._taps = taps
        self._publisher = publisher
        self._hold_s = hold_s
        self._awaited: dict[str, Claim] = {}
        self._watcher: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look after the claims of this connection from now on. Idempotent."""
        if self._watcher is None:
            self._watcher = self._io.spawn(self._watch())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._hold_s / 20)
            old = asyncio.get_running_loop().time() - self._hold_s
            by_lane: defaultdict[Lane, list[Claim]] = defaultdict(list)
            for claim in self._taps.claims():
                if claim.state is State.HELD and claim.since <= old:
                    by_lane[claim.lane].append(claim)
            for lane, claims in by_lane.items():
                await self._swap(lane, claims)

    async def _swap(self, lane: Lane, claims: Sequence[Claim]) -> None:
        """One try; what fails is tried again at the next look."""
        letters: list[Letter] = []
        try:
            async with asyncio.timeout(self._hold_s / 2):
                tap = await self._taps.holding(lane, self._arrived)
                letters = [self._copy(tap, claim) for claim in claims]
                await self._publisher.send(letters, _missing)
        except (Lost, TimeoutError, BrokerRefused) as error:
            for letter in letters:  # a copy that comes after all is thrown away
                self._awaited.pop(letter.properties.message_id, None)
            logger.warning(
                "%d deliveries of %s could not be renewed on the server, which takes them back when"
                " its consumer_timeout is over: %s",
                len(claims),
                lane.queue,
                error or "no answer",
            )

    def _copy(self, tap: Tap, claim: Claim) -> Letter:
        props = job_properties(claim.lane, claim.attempt + 1)
        self._awaited[props.message_id] = claim
        return Letter(tap.queue, claim.body, props)

    def _arrived(self, copy: Claim) -> None:
        claim = self._awaited.pop(copy.message_id or "", None)
        if claim is not None and claim.state is State.HELD:
            copy.tap.hand_over(copy, claim)
        else:
            # settled, lapsed or lost meanwhile, and with it the delivery that this is a copy of
            copy.tap.acknowledge([copy])


async def _missing(letters: Sequence[Letter]) -> None:
    raise Lost(f"the queue {letters[0].routing_key!r} is gone")
