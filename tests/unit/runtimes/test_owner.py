"""Who owns processes and folders, while others look for what the dead have left."""

from __future__ import annotations

import fcntl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from queue_runner.workers.runtimes import owner
from queue_runner.workers.runtimes.janitor import Janitor


def test_a_worker_that_is_just_starting_is_not_taken_for_a_dead_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def lock_while_another_starts(handle: int, how: int) -> None:
        if how == fcntl.LOCK_EX:
            owner.sweep(tmp_path)
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", lock_while_another_starts)
    made = owner.Owner(tmp_path)
    assert made.lock.exists()
    owner.sweep(tmp_path)
    assert owner.held(made.lock)
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_worker_that_was_killed_while_starting_has_left_goes_later(tmp_path: Path) -> None:
    left = tmp_path / f"{owner.BEGUN}0123456789ab"
    left.mkdir()
    owner.sweep(tmp_path)
    assert left.exists()
    owner.sweep(tmp_path, begun_s=0.0)
    assert not left.exists()


def test_closed_twice_it_closes_nobody_elses_file(tmp_path: Path) -> None:
    made = owner.Owner(tmp_path)
    made.close()
    with (tmp_path / "file").open("w") as first, (tmp_path / "other").open("w") as second:
        made.close()
        for each in (first, second):
            each.write("still open")
            each.flush()


def test_a_janitor_is_told_once(tmp_path: Path) -> None:
    made = owner.Owner(tmp_path)
    janitor = Janitor(made.lock, containers=False)
    janitor.close()
    janitor.close()
    janitor.dismiss()
    made.close()


def test_who_asks_whether_an_owner_lives_does_not_pass_for_it(tmp_path: Path) -> None:
    made = owner.Owner(tmp_path)
    assert _answers(made.lock) == {True}
    dead = tmp_path / "dead" / "lock"
    dead.parent.mkdir()
    dead.touch()
    assert _answers(dead) == {False}
    made.close()


def _answers(lock: Path) -> set[bool]:
    """Of its janitor and workers that start just then, again and again."""

    def ask(_: int) -> set[bool]:
        return {owner.held(lock) for _ in range(500)}

    with ThreadPoolExecutor(4) as pool:
        return set[bool]().union(*pool.map(ask, range(4)))


def test_a_janitor_waits_for_the_lock_of_a_worker_that_is_just_dying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = owner.Owner(tmp_path)
    asked = threading.Event()

    def held(lock: Path) -> bool:
        answer = really_held(lock)
        asked.set()
        return answer

    really_held = owner.held
    monkeypatch.setattr(owner, "held", held)
    with ThreadPoolExecutor(1) as pool:
        tidied = pool.submit(owner.tidy, made.lock)
        assert asked.wait(10)
        made.hand_over("nobody", 0.0)  # so that it leaves its folder
        made.close()
        tidied.result(30)
    assert list(tmp_path.iterdir()) == []
