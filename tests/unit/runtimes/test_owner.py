"""Who owns processes and folders, while others look for what the dead have left."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from queue_runner.workers.runtimes import owner


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
