"""Folders for sockets, also those of processes that were killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from queue_runner.client.private import private_folder

_HOLDING = """
import time
from queue_runner.client.private import private_folder
with private_folder() as folder:
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_only_its_owner_may_enter_and_it_goes_with_all_that_is_in_it(here: Path) -> None:
    with private_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "broker").touch()
    assert list(here.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(here: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDING], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        with private_folder() as mine:
            assert {mine, theirs} == set(here.iterdir())
        other.kill()
        other.wait()
        assert theirs.exists()
        with private_folder() as mine:
            assert list(here.iterdir()) == [mine]
