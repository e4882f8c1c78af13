"""Names and arguments of everything we declare on the server.

    PREFIX:QUEUE:p3:s4           a lane: the messages of one queue, priority and size
    PREFIX:QUEUE:p3:s4:d1500     those of the lane that wait 1.5 seconds
    PREFIX:QUEUE:p3:s4:h9f2c...  those of the lane that one connection has held for long
    PREFIX:QUEUE:dead            dead letters of the queue
    PREFIX:lanes                 exchange and stream: which lanes and delays there are
    PREFIX:lanes:count           how many records that stream holds
    PREFIX:broadcast             exchange

All are quorum queues but the stream. What leaves a queue by expiry or delivery limit is dead-lettered
at least once, https://www.rabbitmq.com/docs/quorum-queues#activating-at-least-once-dead-lettering
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

#: 4.x drops a message after 20 returns unless told otherwise; before, there was no limit. Attempts are
#: counted, and given up, by those who use the broker.
_DELIVERY_LIMIT = 1_000_000

#: An unused delay queue goes so long after the last of its messages did: its messages are dead-lettered
#: when they expire, but lost when the queue does.
LINGER_MS = 3_600_000

#: A held copy returns to its lane when its holder dies, at the earliest so long after it was made; by
#: then its holder, who was waiting for it, has got it.
HELD_MS = 10_000

#: RabbitMQ's timers end at 2**32 - 1 ms; this, rounded up, and `LINGER_MS` stay below it.
MAX_DELAY_S = 4_200_000.0


#: Names of lanes that are kept.
_KEPT = 4096


class Lane(NamedTuple):
    """A tuple: one is made, and looked up, for every message."""

    queue: str
    priority: int
    size: int


@dataclass(frozen=True, slots=True)
class Names:
    prefix: str

    def lane(self, lane: Lane) -> str:
        return _lane_name(self.prefix, lane)

    def delay(self, lane: Lane, delay_ms: int) -> str:
        return f"{self.lane(lane)}:d{delay_ms}"

    def held(self, lane: Lane, holder: str) -> str:
        return f"{self.lane(lane)}:h{holder}"

    def dead(self, queue: str) -> str:
        return f"{self.prefix}:{queue}:dead"

    @property
    def lanes(self) -> str:
        return f"{self.prefix}:lanes"

    @property
    def lane_count(self) -> str:
        return f"{self.prefix}:lanes:count"

    @property
    def broadcast(self) -> str:
        return f"{self.prefix}:broadcast"

    def lane_arguments(self, lane: Lane) -> Mapping[str, object]:
        return _quorum(dead_letters_to=self.dead(lane.queue))

    def side_arguments(self, lane: Lane, ttl_ms: int) -> Mapping[str, object]:
        """Of a queue whose messages go on to the lane after `ttl_ms`."""
        expiry = {"x-message-ttl": ttl_ms, "x-expires": ttl_ms + LINGER_MS}
        return {**_quorum(dead_letters_to=self.lane(lane)), **expiry}

    def plain_arguments(self) -> Mapping[str, object]:
        """Of the queues that nothing leaves by itself."""
        return _quorum()


STREAM_ARGUMENTS: Mapping[str, object] = {"x-queue-type": "stream"}

#: A subscriber that falls behind loses the oldest. Quorum queues cannot be exclusive.
SUBSCRIPTION_ARGUMENTS: Mapping[str, object] = {
    "x-queue-type": "classic",
    "x-max-length": 10_000,
    "x-max-length-bytes": 64 * 1024 * 1024,
    "x-overflow": "drop-head",
}


@lru_cache(_KEPT)
def _lane_name(prefix: str, lane: Lane) -> str:
    return f"{prefix}:{lane.queue}:p{lane.priority}:s{lane.size}"


def _quorum(dead_letters_to: str | None = None) -> Mapping[str, object]:
    arguments: dict[str, object] = {
        "x-queue-type": "quorum",
        "x-delivery-limit": _DELIVERY_LIMIT,
    }
    if dead_letters_to is not None:
        arguments |= {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead_letters_to,
            "x-dead-letter-strategy": "at-least-once",
            # at-least-once falls back silently to at-most-once with any other overflow
            "x-overflow": "reject-publish",
        }
    return arguments


def rounded_ms(delay_s: float) -> int:
    """A delay as the milliseconds of its queue, rounded up to two digits to keep the queues few."""
    if not delay_s:
        return 0
    delay_ms = math.ceil(delay_s * 1000)
    step = int(10 ** max(0, len(str(delay_ms)) - 2))
    return -(-delay_ms // step) * step
