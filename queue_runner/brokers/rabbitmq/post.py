"""Putting messages into lanes, delay queues and dead-letter queues, made where needed."""

from __future__ import annotations

from collections.abc import Sequence

from queue_runner.brokers.base import Delivery, Message
from queue_runner.brokers.rabbitmq.catalogue import Catalogue
from queue_runner.brokers.rabbitmq.envelope import (
    Letter,
    dead_properties,
    job_properties,
    lane_of,
)
from queue_runner.brokers.rabbitmq.publisher import Publisher
from queue_runner.brokers.rabbitmq.topology import Lane, Names, rounded_ms


class Post:
    def __init__(self, catalogue: Catalogue, publisher: Publisher, names: Names) -> None:
        self._catalogue = catalogue
        self._publisher = publisher
        self._names = names

    async def send(self, letters: Sequence[Letter]) -> None:
        """Returns when all are confirmed; tries for ever, the caller has the deadline."""
        if letters:
            await self._catalogue.ensure(
                (letter.lane, letter.delay_ms) for letter in letters if letter.lane is not None
            )
            await self._publisher.send(letters, self._catalogue.repair)

    def message(self, message: Message) -> Letter:
        return self.job(lane_of(message), message.body, message.attempt, message.delay_s)

    def job(self, lane: Lane, body: bytes, attempt: int, delay_s: float = 0.0) -> Letter:
        delay_ms = rounded_ms(delay_s)
        key = self._names.delay(lane, delay_ms) if delay_ms else self._names.lane(lane)
        return Letter(key, body, job_properties(lane, attempt), "", lane, delay_ms)

    def again(self, delivery: Delivery, attempt: int, delay_s: float) -> Letter:
        return self.job(lane_of(delivery), delivery.body, attempt, delay_s)

    def dead(self, delivery: Delivery, reason: str) -> Letter:
        lane = lane_of(delivery)
        props = dead_properties(lane, delivery.attempt, reason)
        return Letter(self._names.dead(lane.queue), delivery.body, props, lane=lane)
