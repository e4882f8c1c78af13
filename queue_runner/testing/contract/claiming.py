"""Leases: one holder at a time, for as long as it is renewed, and back to others after that."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

from queue_runner.brokers import Broker, Delivery, Retry
from queue_runner.testing.contract.bench import (
    PATIENCE_S,
    QUEUE,
    Bench,
    assert_empty,
    in_thread,
    lease_one,
    message,
    take,
    texts,
)


class ClaimContract(Bench):
    def test_two_consumers_never_hold_one_message(
        self, broker: Broker, open_broker: Callable[[], Broker]
    ) -> None:
        total = 2000
        broker.publish([message(str(number)) for number in range(total)])

        def consume(mine: Broker) -> list[str]:
            taken: list[Delivery] = []
            while found := mine.lease([QUEUE], 50, 1.0):
                taken += found
                assert mine.settle(done=found) == []
            return texts(taken)

        consumers = [open_broker() for _ in range(3)]
        runs = [in_thread(lambda mine=mine: consume(mine)) for mine in consumers]  # type: ignore[misc]
        seen = Counter(text for run in runs for text in run.result(120))
        assert seen == Counter(str(number) for number in range(total))

    def test_what_is_leased_is_not_leased_again(self, broker: Broker, other: Broker) -> None:
        broker.publish([message("one")])
        held = lease_one(broker)
        assert_empty(other)
        assert_empty(broker)
        assert broker.settle(done=[held]) == []

    def test_a_lapsed_lease_comes_back_and_its_receipt_is_void(
        self, broker: Broker, other: Broker
    ) -> None:
        broker.publish([message("one", attempt=4)])
        old = lease_one(broker, lease_s=0.4)
        new = lease_one(other)
        assert (old.attempt, new.attempt, new.body) == (4, 5, b"one")
        assert broker.renew([old]) == [old]
        assert broker.settle(done=[old]) == [old]
        assert broker.settle(retry=[Retry(old)]) == [old]
        assert_empty(broker)
        assert other.renew([new]) == []
        assert other.settle(done=[new]) == []
        assert_empty(broker)

    def test_a_lapsed_lease_comes_back_to_its_own_connection(self, broker: Broker) -> None:
        broker.publish([message("one")])
        old = lease_one(broker, lease_s=0.3)
        new = lease_one(broker)
        assert new.attempt == 2
        assert broker.settle(done=[old]) == [old]
        assert broker.settle(done=[new]) == []

    def test_a_renewed_lease_does_not_come_back(self, broker: Broker, other: Broker) -> None:
        broker.publish([message("one")])
        lease_s = 1.0
        held = lease_one(broker, lease_s)
        until = time.monotonic() + 5 * lease_s
        stolen = in_thread(lambda: other.lease([QUEUE], 1, 5 * lease_s))
        while time.monotonic() < until:
            assert broker.renew([held], lease_s) == []
            time.sleep(lease_s / 5)
        assert stolen.result(PATIENCE_S) == []
        assert broker.settle(done=[held]) == []
        assert_empty(other)

    def test_each_claim_has_a_time_of_its_own(self, broker: Broker, other: Broker) -> None:
        broker.publish([message("short"), message("long")])
        short = lease_one(broker, lease_s=0.3)
        long = lease_one(other, lease_s=120.0)
        again = lease_one(other)
        assert (again.body, again.attempt) == (b"short", 2)
        assert broker.settle(done=[short]) == [short]
        assert other.settle(done=[long, again]) == []

    def test_renew_may_shorten(self, broker: Broker, other: Broker) -> None:
        broker.publish([message("one")])
        held = lease_one(broker, lease_s=600.0)
        assert broker.renew([held], 0.3) == []
        assert take(other, 1)[0].attempt == 2

    def test_attempts_count_up(self, broker: Broker) -> None:
        broker.publish([message("one")])
        attempts = [lease_one(broker, lease_s=0.3).attempt for _ in range(4)]
        assert attempts == [1, 2, 3, 4]
        assert take(broker, 1)[0].attempt == 5

    def test_a_killed_process_gives_its_messages_back(
        self, broker: Broker, broker_url: str
    ) -> None:
        names = {str(number) for number in range(5)}
        broker.publish([message(name) for name in names])
        holder = subprocess.Popen(
            [sys.executable, "-m", "queue_runner.testing.contract.holder", broker_url, QUEUE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with holder:
            assert holder.stdout is not None
            held = {holder.stdout.readline().decode().strip() for _ in names}
            holder.kill()
        assert held == names
        back = take(broker, 5)
        assert set(texts(back)) == names
        assert {delivery.attempt for delivery in back} == {2}
        assert_empty(broker)

    def test_what_a_closed_connection_held_comes_back(
        self, broker: Broker, open_broker: Callable[[], Broker]
    ) -> None:
        broker.publish([message("one")])
        leaver = open_broker()
        lease_one(leaver, lease_s=1.0)
        leaver.close()
        assert take(broker, 1)[0].attempt == 2

    def test_many_threads_share_one_connection(self, broker: Broker) -> None:
        threads, each = 6, 100

        def work(number: int) -> list[str]:
            broker.publish([message(f"{number}-{place}") for place in range(each)])
            taken: list[Delivery] = []
            while found := broker.lease([QUEUE], 20, 1.0):
                assert broker.renew(found) == []
                assert broker.settle(done=found) == []
                taken += found
            return texts(taken)

        runs = [in_thread(lambda number=number: work(number)) for number in range(threads)]  # type: ignore[misc]
        seen = Counter(text for run in runs for text in run.result(120))
        assert seen == Counter(f"{n}-{place}" for n in range(threads) for place in range(each))
