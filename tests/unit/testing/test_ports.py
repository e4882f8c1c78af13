"""Ports for servers that are about to start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from queue_runner.errors import BrokerUnavailable
from queue_runner.testing.servers import ports

MANY = 150
ASK = f"""
from queue_runner.testing.servers.ports import free_port
print(*(free_port() for _ in range({MANY})), flush=True)
input()
"""


def given(count: int = MANY) -> list[int]:
    return [ports.free_port() for _ in range(count)]


def test_processes_that_run_at_once_are_never_given_the_same() -> None:
    others = [
        subprocess.Popen(
            [sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    lines = [other.stdout.readline() for other in others if other.stdout is not None]
    every = [set(given()), *(set(map(int, line.split())) for line in lines)]
    for other in others:
        other.communicate("\n")
        assert other.returncode == 0
    assert sum(map(len, every)) == len(set().union(*every))


def test_a_forked_child_is_given_its_own() -> None:
    ours = set(given())
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, " ".join(map(str, given(20))).encode())
        os._exit(0)
    os.close(writing)
    theirs = os.read(reading, 1000).split()
    os.close(reading)
    assert os.waitpid(child, 0)[1] == 0
    assert len(theirs) == 20
    assert not ours & set(map(int, theirs))


def test_none_is_given_twice_soon() -> None:
    some = given(50)
    assert len(set(some)) == len(some)


def test_it_says_so_where_all_are_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_LAST", ports._FIRST + 3 * ports._COUNT)
    some = iter(range(-4, 0))
    with pytest.raises(BrokerUnavailable, match="15000 to 15300 are claimed"):
        any(ports._turn(stranger) is None for stranger in some)
    assert next(some, 0) == 0
