"""What a worker has leased: which of it can still be lost."""

from __future__ import annotations

from queue_runner.brokers.base import Delivery
from queue_runner.model import Job
from queue_runner.workers.claims import Claim, Claims


def claim(number: int) -> Claim:
    delivery = Delivery("jobs.default", b"", 1, 0, 1, receipt=number)
    return Claim(delivery, Job(f"s.{number}", "s", number, "command", {}, {}))


def test_a_claim_is_lost_once_and_what_runs_for_it_is_stopped() -> None:
    claims, one = Claims(), claim(1)
    claims.add([one])
    stop = claims.start([one])
    assert claims.lose([one.delivery]) == [one]
    assert (stop.thrown, one.lost, claims.deliveries()) == (True, True, [])
    assert claims.lose([one.delivery]) == []
    claims.finish([one])


def test_those_that_end_are_counted_until_they_are_settled() -> None:
    claims, settled, running = Claims(), claim(1), claim(2)
    claims.add([settled, running])
    assert claims.ending() == 0
    claims.end(settled.delivery)
    assert (claims.count(), claims.ending()) == (2, 1)
    claims.remove([settled.delivery])
    assert (claims.count(), claims.ending()) == (1, 0)


def test_what_has_just_been_settled_is_not_lost() -> None:
    claims, settled, running = Claims(), claim(1), claim(2)
    claims.add([settled, running])
    claims.end(settled.delivery)
    # a renewal that was under way finds neither
    assert claims.lose([settled.delivery, running.delivery]) == [running]
    assert not settled.lost
