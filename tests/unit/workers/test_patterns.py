"""The processes that patterns are tried in."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from queue_runner.workers import matching, patterns
from queue_runner.workers.patterns import Search, Unmatched, found_by


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    mine = patterns._Pool()
    monkeypatch.setattr(patterns, "_POOL", mine)
    yield
    mine.close()
    assert not processes()


def processes() -> list[psutil.Process]:
    # others' tests may have left some that have ended, and have no command line any more
    alive = [c for c in psutil.Process().children() if c.status() != psutil.STATUS_ZOMBIE]
    return [each for each in alive if matching.__file__ in each.cmdline()]


def found(log: Path, *searches: tuple[str, str]) -> list[str | float | None]:
    return found_by([Search(pattern, take, [log]) for pattern, take in searches])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    log = tmp_path / "log é \n"
    log.write_text("y = 1\ny = 2 é\n" + "a" * 60 + "!\n")
    return log


def test_one_process_serves_one_job_after_another(log: Path) -> None:
    for _ in range(3):
        assert found(log, (r"y = (\d)", "sum"), ("é", "last"), ("no", "last")) == [3.0, "é", None]
    assert len(processes()) == 1
    assert found(log) == []


def test_several_jobs_have_several(log: Path) -> None:
    with ThreadPoolExecutor(4) as several:
        answers = several.map(lambda number: found(log, (f"y = {number}", "count")), [1, 2, 3] * 9)
    assert list(answers) == [[1], [1], [None]] * 9
    assert 1 <= len(processes()) <= 4


def test_what_takes_for_ever_is_tried_once_and_the_next_job_is_served(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "_LEAST_S", 1)
    assert found(log, ("y", "count")) == [2]
    (warm,) = processes()
    with pytest.raises(Unmatched, match="takes more than 1 s of processor time") as raised:
        found(log, ("(a|aa)+$", "last"))
    assert raised.value.place == 0
    assert not warm.is_running()
    # the time is each job's own, and the first search's not the second's
    with pytest.raises(Unmatched) as raised:
        found(log, ("y", "count"), ("(a|aa)+$", "last"))
    assert raised.value.place == 1
    assert found(log, ("y", "count")) == [2]


def test_an_error_ends_its_process(log: Path) -> None:
    with pytest.raises(Unmatched, match="is no regular expression") as raised:
        found(log, ("y", "count"), ("(", "last"), ("y", "count"))
    assert raised.value.place == 1
    assert not processes()
    with pytest.raises(Unmatched, match="which is no number"):
        found(log, ("y = .*", "sum"))


def test_one_that_was_killed_while_it_was_idle_is_replaced(log: Path) -> None:
    assert found(log, ("y", "count")) == [2]
    (idle,) = processes()
    os.kill(idle.pid, signal.SIGKILL)
    psutil.wait_procs([idle])
    assert found(log, ("y", "count")) == [2]
    (other,) = processes()
    assert other.pid != idle.pid
