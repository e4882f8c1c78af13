"""What a job may leave in its work folder, and what becomes of it."""

from __future__ import annotations

import json
import os
import socket
import stat
import tracemalloc
from pathlib import Path

import pytest

from queue_runner.errors import JobError
from queue_runner.workers.artifacts import log_tail
from queue_runner.workers.leavings import lines_of, make_harmless, open_file, open_log, remove
from queue_runner.workers.measure import flat_metrics

MIB = 1024**2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("root:hash")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "file").write_text("kept")
    return tmp_path / "work"


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def test_links_that_lead_out_pipes_and_sockets_are_taken_out(folder: Path) -> None:
    (folder / "out").symlink_to("../secret")
    (folder / "absolute").symlink_to("/etc/passwd")
    (folder / "ring").symlink_to("ring")
    (folder / "in").symlink_to("file")
    (folder / "sub").mkdir()
    (folder / "sub" / "up").symlink_to("../..")
    (folder / "sub" / "across").symlink_to("../file")
    os.mkfifo(folder / "sub" / "pipe")
    _bind(folder / "socket")
    make_harmless(folder, links=False)
    assert sorted(path.name for path in folder.rglob("*")) == [
        "absolute", "across", "file", "in", "out", "ring", "sub", "up",
    ]  # fmt: skip
    make_harmless(folder)
    assert sorted(path.name for path in folder.rglob("*")) == ["across", "file", "in", "sub"]
    assert (folder.parent / "secret").read_text() == "root:hash"


@pytest.mark.root
def test_devices_are_taken_out(folder: Path) -> None:
    os.mknod(folder / "memory", stat.S_IFCHR | 0o666, os.makedev(1, 1))
    os.mknod(folder / "disk", stat.S_IFBLK | 0o666, os.makedev(7, 0))
    make_harmless(folder)
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_folders_that_nobody_may_enter_can_be_read_and_removed(folder: Path) -> None:
    closed = folder / "closed"
    (closed / "inner").mkdir(parents=True)
    (closed / "inner" / "file").write_text("x")
    (closed / "inner" / "file").chmod(0)
    (closed / "inner").chmod(0)
    closed.chmod(0)
    make_harmless(folder)
    assert (closed.stat().st_mode & 0o700, (closed / "inner" / "file").read_text()) == (0o700, "x")
    (closed / "inner").chmod(0)
    closed.chmod(0)
    remove(folder)
    assert not folder.exists()


def test_what_is_deeper_than_a_path_is_long_is_cut_off_and_removed(folder: Path) -> None:
    def dig(depth: int, name: str) -> None:
        here = os.open(folder, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir(name * 100, dir_fd=here)
            below = os.open(name * 100, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)

    dig(2000, "d")
    make_harmless(folder)
    assert (folder / "file").read_text() == "kept"
    assert len(list(folder.rglob("*"))) < 110
    dig(2000, "e")
    remove(folder)
    assert not folder.exists()


def test_many_files_and_folders_are_removed(folder: Path) -> None:
    for number in range(1500):
        (folder / f"{number}").mkdir()
        (folder / f"{number}" / "x").write_text("")
    for number in range(1500):
        (folder / "0" / f"f{number}").write_text("")
    remove(folder)
    assert not folder.exists()
    remove(folder)


def test_a_folder_that_is_a_link_is_removed_and_not_what_it_leads_to(folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    remove(folder.parent / "link")
    assert (folder / "file").read_text() == "kept"


@pytest.mark.parametrize("what", ["link", "pipe", "folder", "socket"])
def test_a_log_that_is_no_file_is_neither_read_nor_written_nor_waited_for(
    folder: Path, what: str
) -> None:
    log = folder / "log.x"
    if what == "link":
        log.symlink_to("../secret")
    elif what == "pipe":
        os.mkfifo(log)
    elif what == "folder":
        log.mkdir()
    else:
        _bind(log)
    with pytest.raises(OSError):
        open_file(log)
    with pytest.raises(OSError):
        open_log(log)
    assert log_tail(log) == ""
    assert (folder.parent / "secret").read_text() == "root:hash"


def test_a_line_without_end_takes_no_memory(folder: Path) -> None:
    with (folder / "log").open("wb") as log:
        log.truncate(200 * MIB)
    tracemalloc.start()
    try:
        with lines_of(folder / "log") as lines:
            count = sum(1 for _ in lines)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 200 * 8
    assert peak < 4 * MIB


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"x" * 1000: 1}, "a name of more than"),
        ({"x": "y" * 100_000}, "a text of more than"),
        ({f"x{number}": number for number in range(20_000)}, "more than 10000 metrics"),
        ({"x" * 400: {"y" * 400: {f"{number}": 1 for number in range(9000)}}}, "a name of more"),
        (json.loads('{"x":' * 300 + "1" + "}" * 300), "a name of more than"),
    ],
    ids=["name", "text", "many", "product", "deep"],
)
def test_metrics_are_bounded(content: dict[str, object], says: str) -> None:
    with pytest.raises(JobError, match=says):
        flat_metrics(content, "metrics.json")
