"""What a signature is good for: one place, and one side that speaks there.

A key signs for each purpose with a secret derived for it, so a message that was signed for one place is
worth nothing in another, and a host can be given the secrets of its own purposes only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from queue_runner.model import INBOX_QUEUE, TOPIC_CONTROL, TOPIC_WORKERS, job_queue

#: In the collector's queue: what workers report, and what clients ask and announce.
RESULTS = f"{INBOX_QUEUE}: from workers"
REQUESTS = f"{INBOX_QUEUE}: from clients"
HEARTBEATS = f"broadcasts: {TOPIC_WORKERS}"
CONTROL = f"broadcasts: {TOPIC_CONTROL}"


def on_queue(queue: str) -> str:
    """For jobs; `queue` as the broker knows it."""
    return f"queue: {queue}"


@dataclass(frozen=True, slots=True)
class Role:
    """What a part of the system signs, and what it has to be able to check."""

    name: str
    signs: tuple[str, ...]
    opens: tuple[str, ...]

    @property
    def purposes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.signs, *self.opens]))


def for_worker(queues: Sequence[str]) -> Role:
    """`queues` as users name them."""
    jobs = tuple(on_queue(job_queue(name)) for name in queues)
    return Role("worker", signs=(RESULTS, HEARTBEATS), opens=(*jobs, CONTROL))


def for_client(queues: Sequence[str]) -> Role:
    jobs = tuple(on_queue(job_queue(name)) for name in queues)
    return Role("client", signs=(*jobs, REQUESTS), opens=())


def for_collector() -> Role:
    return Role("collector", signs=(CONTROL,), opens=(RESULTS, REQUESTS, HEARTBEATS))
