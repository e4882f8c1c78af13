"""Whose a container is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from queue_runner.testing.servers import leftovers

#: Prints its label, and stays until it is told to end.
OWNER = """
import sys
from queue_runner.testing.servers import leftovers
print(*leftovers.labels().values(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def owner() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_it_is_gone_when_its_process_has_ended(owner: subprocess.Popen[str]) -> None:
    assert owner.stdout is not None
    label = owner.stdout.readline().strip()
    assert not leftovers.gone(label)
    owner.communicate("")
    assert leftovers.gone(label)


def test_another_process_with_its_number_is_another() -> None:
    (ours,) = leftovers.labels().values()
    assert not leftovers.gone(ours)
    before, _, ticks = ours.rpartition(" ")
    assert leftovers.gone(f"{before} {int(ticks) - 1}")


def test_on_another_host_nobody_can_tell() -> None:
    (ours,) = leftovers.labels().values()
    assert not leftovers.gone(f"elsewhere {ours.partition(' ')[2]} of before")


@pytest.mark.parametrize("label", ["", "host", "host x y"])
def test_what_is_no_label_of_ours_stays(label: str) -> None:
    assert not leftovers.gone(label)
