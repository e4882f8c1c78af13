"""CSV files that would eat the memory or the time of whoever checks the study that names them."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from queue_runner.errors import StudyError
from queue_runner.study.load import load_study

MIB = 1024**2
STUDY = "study: s\nkind: command\npoints: p.csv\ncommand: {run: [echo, '{a}']}\n"


def _written(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def _holes(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"a\n")
        file.truncate(10**13)


def _elsewhere(path: Path) -> None:
    other = path.parent.parent / "other.csv"
    other.write_text("a\n1\n")
    path.symlink_to(other)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_written(b"a\n" + b"1," * (50 * MIB)), "p.csv: larger than 32 MiB; split it"),
        (_holes, "p.csv: larger than 32 MiB; split it"),
        (_written(b"a\n" + b"1," * (10 * MIB)), "p.csv:2: expected 1 values (a), found 10485761"),
        (_written(b"a" + b",a" * 10**6 + b"\n"), "p.csv:1: 1000001 columns, of which the limit is 1000"),
        (_written(b'a\n1\n"2\n' + b"3\n" * 10**6), "p.csv:3: a value of more than 131072 characters"),
        (_written(b"a\n1\n2\0\n"), "p.csv:3: a NUL character"),
        (_written(b"a\n1\n\xff\xfe\n"), "p.csv: not UTF-8 text (line 3, byte 4)"),
        (_written("a\n1\n".encode("utf-16")), "p.csv: not UTF-8 text (line 1, byte 0)"),
        (os.mkfifo, "p.csv: not a file but a folder, a device, a pipe or a socket"),
        (Path.mkdir, "p.csv: not a file but a folder, a device, a pipe or a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "'p.csv' leads outside the study file's folder"),
        (_elsewhere, "'p.csv' leads outside the study file's folder"),
        (lambda path: path.symlink_to(path), "'p.csv' leads outside the study file's folder"),
    ],
    ids=[
        "a row of 100 MB", "ten terabytes", "a row of 20 MB", "a million columns", "an open quote", "NUL",
        "no UTF-8", "UTF-16", "a pipe", "a folder", "/dev/zero", "elsewhere", "itself",
    ],
)  # fmt: skip
def test_a_table_is_refused_with_its_line_and_takes_little_memory(
    tmp_path: Path, make: Callable[[Path], None], says: str
) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    make(folder / "p.csv")
    tracemalloc.start()
    try:
        with pytest.raises(StudyError) as caught:
            load_study(folder / "study.yaml")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith("study.yaml:3: points: ")
    assert says in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert peak < 800 * MIB


@pytest.mark.parametrize("name", ["pipe", "zero"])
def test_a_study_that_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "study.yaml"
    if name == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(StudyError, match="not a file but a folder, a device"):
        load_study(path)
