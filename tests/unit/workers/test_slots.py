"""Which jobs are taken together."""

from __future__ import annotations

import threading
import time

import pytest

from queue_runner.brokers.base import Delivery
from queue_runner.model import Job, Resources
from queue_runner.workers import slots as slots_module
from queue_runner.workers.claims import Claim
from queue_runner.workers.slots import Slots


def claim(number: int, lane: str | None, cores: int = 1, memory_bytes: int | None = None) -> Claim:
    resources = Resources(cores=cores, memory_bytes=memory_bytes)
    job = Job(f"s.{number}", "s", number, "python", {}, {}, resources=resources)
    return Claim(Delivery("jobs.default", b"", cores, 0, 1, None), job, lane=lane)


def numbers(taken: list[Claim]) -> list[int]:
    return [each.job.index for each in taken]


def warmed_up(slots: Slots, mean_s: float) -> None:
    """As after a first job that took so long."""
    slots.put([claim(-1, "a")])
    (first,) = slots.take()
    slots.took(mean_s)
    slots.free(first)


def test_the_first_goes_alone_for_nobody_knows_how_long_it_takes() -> None:
    slots = Slots(1, None)
    slots.put([claim(n, "a") for n in range(3)])
    assert numbers(slots.take()) == [0]


def test_short_ones_of_a_kind_go_together_in_their_order() -> None:
    slots = Slots(1, None)
    warmed_up(slots, 0.001)
    slots.put([claim(0, "a"), claim(1, "a"), claim(2, "b"), claim(3, "a")])
    first = slots.take()
    assert numbers(first) == [0, 1]
    slots.free(first[0])
    assert numbers(slots.take()) == [2]


def test_each_core_gets_its_share() -> None:
    slots = Slots(2, None)
    warmed_up(slots, 0.001)
    slots.put([claim(n, "a") for n in range(9)])
    assert [numbers(slots.take()), numbers(slots.take())] == [[0, 1, 2, 3, 4], [5, 6]]


def test_no_more_than_a_short_turn() -> None:
    slots = Slots(1, None)
    warmed_up(slots, 0.005)
    slots.put([claim(n, "a") for n in range(100)])
    assert len(slots.take()) == 11


def test_what_takes_the_ordinary_way_goes_alone() -> None:
    slots = Slots(1, None)
    warmed_up(slots, 0.001)
    slots.put([claim(n, None) for n in range(4)])
    assert numbers(slots.take()) == [0]


def test_after_the_end_nothing_is_taken() -> None:
    slots = Slots(1, None)
    slots.put([claim(0, "a")])
    assert numbers(slots.close()) == [0]
    assert slots.take() == []


def test_after_the_end_nothing_is_put_off() -> None:
    slots = Slots(1, None)
    assert slots.put([])
    slots.close()
    assert not slots.put([])


def test_who_waits_for_room_is_woken_when_there_is_some() -> None:
    slots = Slots(1, None)
    slots.put([claim(0, "a")])
    (first,) = slots.take()
    told = threading.Event()

    def await_room() -> None:
        while slots.room() <= 0:
            slots.await_room(60)
        told.set()

    waiting = threading.Thread(target=await_room)
    waiting.start()
    slots.free(first)
    waiting.join()
    assert told.is_set()


def test_room_is_what_is_free_and_not_waited_for_yet() -> None:
    slots = Slots(4, None)
    slots.put([claim(n, None, cores) for n, cores in enumerate((1, 2, 4))])
    assert slots.room() == 0
    (first,) = slots.take()
    assert slots.room() == 0
    slots.close()
    assert slots.room() == 3
    slots.free(first)
    assert slots.room() == 4


def test_short_jobs_are_leased_ahead_and_no_more_while_half_of_them_wait() -> None:
    slots = Slots(1, None)
    warmed_up(slots, 0.001)
    assert slots.room() == 251
    slots.put([claim(n, None) for n in range(251)])
    assert slots.room() == 0
    for _ in range(125):
        (taken,) = slots.take()
        slots.free(taken)
    assert slots.room() == 0
    slots.take()
    assert slots.room() == 125


@pytest.mark.parametrize(
    ("mean_s", "ahead"), [(0.05, 10), (0.12, 4), (0.25, 2), (0.26, 0), (3600.0, 0)]
)
def test_a_quarter_of_a_second_of_short_jobs_is_leased_ahead_and_no_long_one(
    mean_s: float, ahead: int
) -> None:
    slots = Slots(2, None)
    warmed_up(slots, mean_s)
    assert slots.room() == 2 + ahead


class Runners:
    """Threads that take what there is, and note it until they are told to free it."""

    def __init__(self, slots: Slots, count: int) -> None:
        self.slots, self._changed = slots, threading.Condition()
        self.running: dict[int, threading.Event] = {}
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while taken := self.slots.take():
            go_on = threading.Event()
            with self._changed:
                self.running[taken[0].job.index] = go_on
                self._changed.notify_all()
            assert go_on.wait(60)
            with self._changed:
                del self.running[taken[0].job.index]
            self.slots.free(taken[0])

    def await_running(self, *indexes: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: set(self.running) == set(indexes), 60)

    def await_asleep(self, count: int) -> None:
        end = time.monotonic() + 60
        while len(self.slots._ready._waiters) != count:  # type: ignore[attr-defined]
            assert time.monotonic() < end
            time.sleep(0.001)

    def end(self) -> None:
        self.slots.close()
        for go_on in list(self.running.values()):
            go_on.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


def test_all_that_fits_runs_when_a_large_one_ends() -> None:
    slots = Slots(4, None)
    runners = Runners(slots, 4)
    slots.put([claim(0, None, cores=4)])
    runners.await_running(0)
    slots.put([claim(number, None) for number in range(1, 6)])
    runners.running[0].set()
    runners.await_running(1, 2, 3, 4)
    runners.running[2].set()
    runners.await_running(1, 3, 4, 5)
    runners.end()


def test_what_is_behind_one_that_waited_too_long_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots(2, None)
    runners = Runners(slots, 2)
    slots.put([claim(0, None)])
    runners.await_running(0)
    later = claim(2, None)
    later.leased_at += 60
    slots.put([claim(1, None, cores=2), later])
    runners.await_asleep(1)
    monkeypatch.setattr("queue_runner.workers.slots._MAX_WAIT_S", 0.0)
    assert numbers(slots.overdue()) == [1]
    runners.await_running(0, 2)
    runners.end()


def test_what_is_behind_those_that_follow_another_runs() -> None:
    slots = Slots(2, None)
    warmed_up(slots, 0.001)
    slots.put([claim(0, "a")])
    (first,) = slots.take()
    runners = Runners(slots, 1)
    slots.put([claim(1, "a", cores=2), claim(2, None)])
    runners.await_asleep(1)
    assert numbers(slots.take_behind(first)) == [1]
    runners.await_running(2)
    runners.end()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "_KEEPING_S", 0.0)


def taken_and_over(slots: Slots) -> Claim:
    (first,) = slots.take()
    slots.work_is_over(first)
    slots.free_of_what_takes_long()
    return first


@pytest.mark.usefixtures("at_once")
def test_a_job_whose_work_is_over_gives_up_its_place_before_it_is_through() -> None:
    slots = Slots(1, 100)
    slots.put([claim(n, None, memory_bytes=80) for n in range(2)])
    taken_and_over(slots)
    assert numbers(slots.take()) == [1]
    assert not slots.idle


def test_it_keeps_its_place_for_the_moment_that_most_take() -> None:
    slots = Slots(1, None)
    slots.put([claim(n, None) for n in range(2)])
    first = taken_and_over(slots)
    assert slots.free_cores == 0
    slots.free(first)
    assert slots.free_cores == 1
    slots.free_of_what_takes_long()
    assert slots.free_cores == 1


@pytest.mark.usefixtures("at_once")
def test_what_is_not_through_keeps_a_worker_from_ending() -> None:
    slots = Slots(1, None)
    slots.put([claim(0, None)])
    first = taken_and_over(slots)
    assert slots.room() == 1
    assert not slots.idle
    assert not slots.await_idle(0.0)
    slots.free(first)
    assert slots.idle
    assert slots.await_idle(0.0)
    assert slots.room() == 1


@pytest.mark.usefixtures("at_once")
def test_no_more_give_up_their_places_than_there_are_cores() -> None:
    slots = Slots(1, None)
    slots.put([claim(n, None) for n in range(3)])
    first = taken_and_over(slots)
    second = taken_and_over(slots)
    # there is a runner for one that runs and one that ends; and a store that is away gets no more to do
    assert slots.free_cores == 0
    slots.free(first)
    slots.free_of_what_takes_long()
    assert slots.free_cores == 1
    slots.free(second)
    assert slots.free_cores == 1
    assert numbers(slots.take()) == [2]
