"""Folders of runs on disks that have no room or rights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from queue_runner.client import folder as module
from queue_runner.client.folder import RunFolder, RunsFolder
from queue_runner.errors import FixThis
from queue_runner.signing import UNSIGNED


def test_a_full_disk_is_said_before_a_run_waits_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "x")
    run.make()
    run.check_room()
    monkeypatch.setattr(module, "_ROOM_BYTES", shutil.disk_usage(tmp_path).total + 1)
    with pytest.raises(FixThis, match=r"free on this disk, .* the same command goes on"):
        run.check_room()


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for part in (RunsFolder(tmp_path / "file" / "x"), RunFolder(tmp_path / "file" / "x")):
        with pytest.raises(
            FixThis, match=r"cannot be made: Not a directory\. Choose another --folder"
        ):
            part.make()


def test_a_run_that_was_begun_without_keys_goes_on_without(tmp_path: Path) -> None:
    """What waits in its journal is not signed."""
    before, new = RunFolder(tmp_path / "before"), RunFolder(tmp_path / "new")
    for run in (before, new):
        run.make()
    before.journal.touch()
    for run in (before, new):
        run.make_keys()
    assert before.seal() is UNSIGNED
    assert new.seal() is not UNSIGNED


def test_a_disk_that_knows_no_rights_runs_studies_too(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "x")
    run.make()
    run.make_keys()
    run.keys.chmod(0o777)
    assert run.seal().seal(b"", "results") != b""
