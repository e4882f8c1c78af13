"""A folder that has not changed is not packed again, and one that has always is."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from queue_runner.store import base, open_store, unchanged
from queue_runner.store.bundle import write_bundle
from queue_runner.store.folder import FolderStore

Packings = list[Path]


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    opened = open_store((tmp_path / "store").as_uri())
    assert isinstance(opened, FolderStore)
    return opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "case"
    (root / "system").mkdir(parents=True)
    (root / "system" / "controlDict").write_text("deltaT 1;\n")
    (root / "Allrun").write_text("#!/bin/sh\n")
    return root


@pytest.fixture
def packings(monkeypatch: pytest.MonkeyPatch) -> Packings:
    done: Packings = []

    def counted(folder: Path, *rest: Any, **options: Any) -> None:
        done.append(folder)
        write_bundle(folder, *rest, **options)

    monkeypatch.setattr(base, "write_bundle", counted)
    return done


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing counts as changed a moment ago. Tests that need it let the kernel's clock go on themselves."""
    monkeypatch.setattr(unchanged, "_settled_ns", lambda changed_ns: 0)


@pytest.mark.usefixtures("old")
def test_the_same_is_packed_once(store: FolderStore, folder: Path, packings: Packings) -> None:
    first = store.put_folder(folder)
    assert [store.put_folder(folder) for _ in range(3)] == [first] * 3
    assert len(packings) == 1


@pytest.mark.usefixtures("old")
def test_what_is_left_out_belongs_to_it(
    store: FolderStore, folder: Path, packings: Packings
) -> None:
    assert store.put_folder(folder) != store.put_folder(folder, ["system/*"])
    assert store.put_folder(folder, ["system/*"]) != store.put_folder(folder)
    assert len(packings) == 2


@pytest.mark.usefixtures("old")
def test_a_folder_is_known_by_where_it_is(
    store: FolderStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere" / "case").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    here = store.put_folder(Path("case"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert store.put_folder(Path("case")) != here


def _same_size_and_time(root: Path) -> None:
    path = root / "system" / "controlDict"
    before = path.stat()
    path.write_text("deltaT 2;\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def _replaced(root: Path) -> None:
    path, other = root / "Allrun", root / "other"
    before = path.stat()
    other.write_text("#!/bin/zz\n")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


CHANGES: dict[str, Callable[[Path], Any]] = {
    "other content of the same size and time": _same_size_and_time,
    "replaced by one of the same size and time": _replaced,
    "longer": lambda root: (root / "Allrun").write_text("#!/bin/sh\ntrue\n"),
    "executable": lambda root: (root / "Allrun").chmod(0o755),
    "a new file": lambda root: (root / "system" / "fvSchemes").write_text(""),
    "a new folder": lambda root: (root / "constant").mkdir(),
    "one less": lambda root: (root / "Allrun").unlink(),
    "renamed": lambda root: (root / "Allrun").rename(root / "Allclean"),
    "a folder renamed": lambda root: (root / "system").rename(root / "sys"),
}


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_packed_again(store: FolderStore, folder: Path, change: str) -> None:
    before = store.put_folder(folder)
    _let_a_tick_pass(folder)
    CHANGES[change](folder)
    assert store.put_folder(folder) != before


def _let_a_tick_pass(folder: Path) -> None:
    """Until the file system writes down another time than it did before."""
    probe = folder.parent / "probe"
    times = set[int]()
    while len(times) < 2:
        probe.write_text("")
        times.add(probe.stat().st_ctime_ns)


@pytest.mark.usefixtures("old")
def test_what_changes_while_it_is_packed_is_packed_again(
    store: FolderStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(root: Path, *rest: Any, **options: Any) -> None:
        write_bundle(root, *rest, **options)
        _let_a_tick_pass(folder)
        (root / "Allrun").write_text("#!/bin/zz\n")

    monkeypatch.setattr(base, "write_bundle", meanwhile)
    before = store.put_folder(folder)
    monkeypatch.undo()
    assert store.put_folder(folder) != before


@pytest.mark.parametrize(
    ("changed_ns", "trusted_after_s"),
    [
        (1_700_000_000_123_456_789, 0.1),
        (1_700_000_000_990_000_000, 0.1),
        (1_700_000_000_000_000_000, 2.0),
    ],
)
def test_how_soon_a_change_is_trusted_depends_on_the_file_systems_clock(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changed_ns: int, trusted_after_s: float
) -> None:
    status = SimpleNamespace(
        st_dev=1, st_ino=2, st_mode=0o644, st_uid=0, st_gid=0, st_size=1, st_mtime_ns=1,
        st_ctime_ns=changed_ns,
    )  # fmt: skip
    monkeypatch.setattr(unchanged, "_statuses", lambda folder: iter([("a", status)]))
    for since_s, trusted in ((trusted_after_s - 0.01, False), (trusted_after_s + 0.01, True)):
        now_ns = changed_ns + int(1e9 * since_s)
        monkeypatch.setattr(time, "time_ns", lambda now_ns=now_ns: now_ns)
        assert (unchanged.look(folder) is not None) is trusted


def test_what_has_just_changed_is_not_trusted(
    store: FolderStore, folder: Path, packings: Packings, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_ns = (folder / "Allrun").stat().st_ctime_ns
    monkeypatch.setattr(time, "time_ns", lambda: changed_ns)
    store.put_folder(folder)
    store.put_folder(folder)
    assert len(packings) == 2


@pytest.mark.usefixtures("old")
def test_links_are_not_trusted(store: FolderStore, folder: Path) -> None:
    (folder / "link").symlink_to("Allrun")
    assert unchanged.look(folder) is None
    before = store.put_folder(folder)
    (folder / "Allrun").write_text("#!/bin/zz\n")
    assert store.put_folder(folder) != before


@pytest.mark.usefixtures("old")
def test_litter_is_not_looked_at(store: FolderStore, folder: Path, packings: Packings) -> None:
    store.put_folder(folder)
    before = unchanged.look(folder / "system")
    (folder / "system" / "controlDict~").write_text("")
    assert unchanged.look(folder / "system") != before  # the folder's own time
    (folder / "__pycache__").mkdir()
    store.put_folder(folder)
    (folder / "__pycache__" / "x.pyc").write_text("")
    store.put_folder(folder)
    assert len(packings) == 2


@pytest.mark.usefixtures("old")
def test_too_many_are_not_remembered(
    store: FolderStore, folder: Path, packings: Packings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "_MOST_ENTRIES", 3)
    store.put_folder(folder)
    store.put_folder(folder)
    assert len(packings) == 2


@pytest.mark.usefixtures("old")
def test_the_oldest_of_many_folders_is_forgotten(
    store: FolderStore, folder: Path, packings: Packings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "_MOST_FOLDERS", 1)
    store.put_folder(folder)
    store.put_folder(folder / "system")
    store.put_folder(folder)
    assert len(packings) == 3


@pytest.mark.usefixtures("old")
def test_what_the_store_lost_is_put_again(store: FolderStore, folder: Path) -> None:
    sha256 = store.put_folder(folder)
    shutil.rmtree(store.root)
    assert store.put_folder(folder) == sha256
    assert store.has(sha256)


@pytest.mark.usefixtures("old")
def test_what_the_store_has_only_a_part_of_is_put_again(store: FolderStore, folder: Path) -> None:
    sha256 = store.put_folder(folder)
    size_bytes = store.size_bytes(sha256)
    os.truncate(store.root / sha256[:2] / sha256, 1)
    assert store.put_folder(folder) == sha256
    assert store.size_bytes(sha256) == size_bytes


@pytest.mark.usefixtures("old")
def test_it_counts_as_put_just_now(store: FolderStore, folder: Path) -> None:
    sha256 = store.put_folder(folder)
    an_hour_ago = time.time() - 3600
    os.utime(store.root / sha256[:2] / sha256, (an_hour_ago, an_hour_ago))
    store.put_folder(folder)
    assert not store.delete(sha256, older_than_s=1800)


def test_what_is_no_folder_is_told_as_ever(store: FolderStore, tmp_path: Path) -> None:
    assert unchanged.look(tmp_path / "nowhere") is None
    os.mkfifo(tmp_path / "pipe")
    assert unchanged.look(tmp_path) is None
