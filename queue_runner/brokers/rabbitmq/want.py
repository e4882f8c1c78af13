"""What one `lease` call asks for, and which lanes to take it from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from queue_runner.brokers.rabbitmq.topology import Lane


@dataclass(frozen=True, slots=True)
class Want:
    queues: tuple[str, ...]
    limit: int
    room: int | None
    max_size: int | None

    def fits(self, lane: Lane) -> bool:
        return all(most is None or lane.size <= most for most in (self.room, self.max_size))

    def order(self, lane: Lane) -> tuple[int, int, int]:
        """Higher priorities first, then earlier queues, then larger sizes."""
        return (-lane.priority, self.queues.index(lane.queue), -lane.size)

    def most(self, lane: Lane) -> int:
        """How many of one lane, if all are."""
        return _most(lane, self.limit, self.room)

    def allot(self, lanes: Iterable[Lane], there: Mapping[Lane, int]) -> dict[Lane, int]:
        """How many to take of each lane, served in this order, when so many are there."""
        limit, room = self.limit, self.room
        shares: dict[Lane, int] = {}
        for lane in lanes:
            most = _most(lane, limit, room)
            shares[lane] = min(there[lane], most)
            limit -= shares[lane]
            room = None if room is None else room - shares[lane] * lane.size
        return {lane: share for lane, share in shares.items() if share}


def _most(lane: Lane, limit: int, room: int | None) -> int:
    return limit if room is None else min(limit, room // lane.size)
