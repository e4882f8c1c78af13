"""Garbage collection: what nobody refers to goes, what is young or needed stays."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest

from queue_runner.store import open_store
from queue_runner.store.folder import FolderStore
from queue_runner.store.garbage import collect_garbage
from queue_runner.store.listing import Listed, Listing, put_listing


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    opened = open_store(str(tmp_path / "store"))
    assert isinstance(opened, FolderStore)
    return opened


def put(store: FolderStore, text: str, age_s: float) -> str:
    sha256, _ = store.put(io.BytesIO(text.encode()))
    path = store.root / sha256[:2] / sha256
    changed = path.stat().st_mtime - age_s
    os.utime(path, (changed, changed))
    return sha256


def test_what_is_old_and_not_needed_goes(store: FolderStore) -> None:
    needed, young = put(store, "needed", 9000), put(store, "young", 0)
    old, older = put(store, "old", 9000), put(store, "older!", 90000)
    names = [needed, needed, hashlib.sha256(b"not there").hexdigest(), "no hash"]
    found = collect_garbage(
        store, names, finished=lambda name: False, older_than_s=3600, dry_run=True
    )
    assert (found.objects, found.removed, found.removed_bytes) == (4, 2, len("oldolder!"))
    assert all(map(store.has, (needed, young, old, older)))
    assert (
        collect_garbage(
            store, names, finished=lambda name: False, older_than_s=3600, dry_run=False
        ).removed
        == 2
    )
    assert [store.has(name) for name in (needed, young, old, older)] == [True, True, False, False]
    assert (
        collect_garbage(
            store, names, finished=lambda name: False, older_than_s=3600, dry_run=False
        ).removed
        == 0
    )


def test_what_is_put_while_it_is_collected_stays(store: FolderStore) -> None:
    old = put(store, "old", 9000)

    def referenced():  # type: ignore[no-untyped-def]
        # a submission begins after the collection did, and before anything is removed
        store.put(io.BytesIO(b"old"))
        yield from ()

    found = collect_garbage(
        store, referenced(), finished=lambda name: False, older_than_s=3600, dry_run=False
    )
    assert found.removed == 0
    assert store.has(old)


def test_leftovers_of_killed_writers_go_after_a_day(store: FolderStore) -> None:
    store.put(io.BytesIO(b"x"))
    for name, age_s in (("young.put", 3600), ("old.put", 90000), ("old.up", 90000)):
        path = store.uploads / name
        path.write_bytes(b"12345")
        changed = path.stat().st_mtime - age_s
        os.utime(path, (changed, changed))
    found = collect_garbage(store, [], finished=lambda name: False, older_than_s=0, dry_run=False)
    assert found.leftover_bytes == 10
    assert [path.name for path in store.uploads.iterdir()] == ["young.put"]


def test_what_is_marked_stays_with_its_files_until_the_job_is_finished(store: FolderStore) -> None:
    file, other = put(store, "file", 9000), put(store, "other", 9000)
    listing = put_listing(store, Listing("time 1", (Listed("0/U", file),)))
    os.utime(store.root / listing[:2] / listing, (0, 0))
    store.mark("s.0000000", listing)

    def collect(*finished: str) -> int:
        return collect_garbage(
            store, [], finished=lambda name: name in finished, older_than_s=3600, dry_run=False
        ).removed

    assert collect() == 1
    assert [store.has(each) for each in (file, listing, other)] == [True, True, False]
    assert collect("s.0000000") == 2
    assert list(store.marks()) == []


def test_a_mark_of_nothing_is_no_obstacle(store: FolderStore) -> None:
    store.mark("s.0000000", put(store, "no listing", 9000))
    store.mark("s.0000001", "0" * 64)
    old = put(store, "old", 9000)
    found = collect_garbage(
        store, [], finished=lambda name: False, older_than_s=3600, dry_run=False
    )
    assert (found.removed, store.has(old)) == (1, False)
