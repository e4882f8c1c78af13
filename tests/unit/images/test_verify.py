"""Two file systems are compared path by path."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace

import pytest

from queue_runner.images.verify import Comparison, Difference, Entry, compare, read_entries

FILE = Entry("0", 0o644, (0, 0), 7, "a" * 64)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (replace(FILE, content="b" * 64), "content"),
        (replace(FILE, kind="2"), "content"),
        (replace(FILE, mode=0o755), "rights"),
        (replace(FILE, owner=(0, 1)), "rights"),
        (replace(FILE, mtime_s=8), "time"),
        (replace(FILE, mtime_s=8, content="b" * 64), "content"),
    ],
)
def test_the_gravest_difference_is_told(other: Entry, what: str) -> None:
    assert list(compare({"x": FILE, "same": FILE}, {"x": other, "same": FILE})) == [
        Difference("x", what)
    ]


def test_what_only_one_has() -> None:
    assert list(compare({"a": FILE}, {"b": FILE})) == [
        Difference("a", "only first"),
        Difference("b", "only second"),
    ]


def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        folder = tarfile.TarInfo("./etc")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        file = tarfile.TarInfo("etc/file")
        file.size, file.mtime, file.uid, file.mode = 3, 99, 5, 0o600
        tar.addfile(file, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("bin")
        link.type, link.linkname = tarfile.SYMTYPE, "usr/bin"
        tar.addfile(link)
    return out.getvalue()


def test_a_layer_is_read() -> None:
    found = read_entries(io.BytesIO(archive()))
    assert sorted(found) == ["bin", "etc", "etc/file"]
    assert found["bin"].content == "usr/bin"
    assert found["etc/file"] == Entry(
        "0",
        0o600,
        (5, 0),
        99,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    )


def test_a_comparison_in_words() -> None:
    same = Comparison("queue-runner/redis:latest", 3, 3, 0, ())
    assert same.same
    assert same.lines() == ["queue-runner/redis:latest: 3 of 3 layers have the same digest"]
    many = Comparison("t", 3, 1, 50, tuple(Difference(f"p{n}", "time") for n in range(12)))
    assert not many.same
    assert many.lines()[0] == (
        "t: 1 of 3 layers have the same digest; 12 of 50 files in the others differ"
    )
    assert many.lines()[-1] == "    ... and 2 more; --json lists all"
