"""Whatever is done to a watched folder is noticed, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from queue_runner.workers.untouched import Watch


def write_in_place(folder: Path) -> None:
    with (folder / "sub/file").open("r+b") as file:
        file.write(b"x")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a new file": lambda folder: (folder / "new").touch(),
    "a new folder": lambda folder: (folder / "new").mkdir(),
    "written in place": write_in_place,
    "opened to be written": lambda folder: (folder / "file").open("ab").close(),
    "removed": lambda folder: (folder / "sub/file").unlink(),
    "renamed": lambda folder: (folder / "file").rename(folder / "other"),
    "moved away": lambda folder: (folder / "file").rename(folder.parent / "other"),
    "other rights": lambda folder: (folder / "file").chmod(0o600),
    "other times": lambda folder: os.utime(folder / "file", (1, 1)),
    "a link": lambda folder: (folder / "link").symlink_to("file"),
    "moved as a whole": lambda folder: folder.rename(folder.parent / "elsewhere"),
    "another name for a file": lambda folder: os.link(folder / "file", folder.parent / "name"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    (made / "sub").mkdir(parents=True)
    (made / "file").write_text("1")
    (made / "sub/file").write_text("2")
    return made


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_noticed(folder: Path, change: Callable[[Path], object]) -> None:
    watch = Watch(folder)
    assert not watch.look()
    change(folder)
    assert watch.look()
    assert watch.look()
    watch.close()


def test_reading_is_no_change(folder: Path) -> None:
    watch = Watch(folder)
    assert (folder / "file").read_text() == "1"
    assert sorted(os.listdir(folder / "sub")) == ["file"]
    (folder.parent / "beside").touch()
    assert not watch.look()
    watch.close()


def test_what_cannot_be_watched_counts_as_changed(folder: Path) -> None:
    for number in range(300):
        (folder / f"sub{number}").mkdir()
    watch = Watch(folder)
    assert watch.look()
    watch.close()
