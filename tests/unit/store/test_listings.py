"""A folder as a list of objects, also one that somebody made up."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from queue_runner.errors import NotFound, StoreDamaged
from queue_runner.store import Store, open_store
from queue_runner.store.listing import Listed, Listing, get_files, put_listing, read_listing


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def test_files_come_back_with_what_may_be_executed(store: Store, tmp_path: Path) -> None:
    files = [
        Listed(name, store.put(io.BytesIO(name.encode()))[0], name == "run")
        for name in ("run", "0.25/uniform/time")
    ]
    made = Listing("time 0.25", tuple(files), ("log.blockMesh", "log.icoFoam"))
    listing = read_listing(store, put_listing(store, made))
    assert listing == made
    get_files(store, listing, tmp_path / "into")
    assert (tmp_path / "into/0.25/uniform/time").read_text() == "0.25/uniform/time"
    assert (tmp_path / "into/run").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("name", ["../out", "/etc/out", "", ".", "a/../../out", "link/out", "a\0b"])
def test_a_listing_does_not_lead_outside(store: Store, tmp_path: Path, name: str) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (into / "link").symlink_to(tmp_path)
    listing = Listing("x", (Listed(name, store.put(io.BytesIO(b"x"))[0]),))
    with pytest.raises(StoreDamaged, match="outside its folder"):
        get_files(store, listing, into)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_also_a_folder(store: Store, tmp_path: Path) -> None:
    sha256 = store.put(io.BytesIO(b"x"))[0]
    for names in (("a", "a/b"), ("a/b", "a")):
        listing = Listing("x", tuple(Listed(name, sha256) for name in names))
        with pytest.raises(StoreDamaged, match="twice"):
            get_files(store, listing, tmp_path / names[0].replace("/", "-"))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": 2}', '{"version": 1, "label": "", "files": [[1]]}', "[" * 99999],
)
def test_what_is_no_listing(store: Store, text: str) -> None:
    sha256, _ = store.put(io.BytesIO(text.encode()))
    with pytest.raises(StoreDamaged, match="no listing"):
        read_listing(store, sha256)


def test_a_listing_that_is_gone(store: Store) -> None:
    with pytest.raises(NotFound):
        read_listing(store, "0" * 64)
