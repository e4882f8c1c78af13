"""What every kind of store promises: in a folder, and behind fsspec."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_runner.errors import NotFound, StoreDamaged, StoreRefused, Unsupported
from queue_runner.store import Store, open_store
from queue_runner.store.folder import FolderStore

EMPTY = hashlib.sha256().hexdigest()


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return open_store((tmp_path / "store").as_uri())
    return open_store(f"memory://{uuid.uuid4().hex}/store")


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    opened = open_store(str(tmp_path / "store"))
    assert isinstance(opened, FolderStore)
    return opened


def content_of(store: Store, sha256: str) -> bytes:
    out = io.BytesIO()
    store.get(sha256, out)
    return out.getvalue()


@pytest.mark.parametrize("content", [b"", b"hello", b"x" * 3_000_000])
def test_content_comes_back(store: Store, content: bytes) -> None:
    sha256, size_bytes = store.put(io.BytesIO(content))
    assert (sha256, size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert store.put(io.BytesIO(content)) == (sha256, size_bytes)
    assert content_of(store, sha256) == content
    assert store.size_bytes(sha256) == len(content)
    assert [entry.sha256 for entry in store.entries()] == [sha256]


def test_a_source_that_cannot_be_read_twice(store: Store) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    os.close(writing)
    with open(reading, "rb") as source:
        sha256, _ = store.put(source)
    assert content_of(store, sha256) == b"through a pipe"


def test_only_what_is_left_of_a_source_is_kept(store: Store) -> None:
    source = io.BytesIO(b"header|body")
    source.seek(7)
    assert content_of(store, store.put(source)[0]) == b"body"


@pytest.mark.parametrize("name", ["0" * 64, "../../etc/passwd", "", "A" * 64, "\0" * 64])
def test_what_is_not_there_is_not_found(store: Store, name: str) -> None:
    with pytest.raises(NotFound):
        content_of(store, name)


def test_a_half_is_completed(store: Store) -> None:
    content = os.urandom(2_500_000)
    sha256, _ = store.put(io.BytesIO(content))
    seen: list[int] = []
    half = io.BytesIO(content[:1_200_000])
    store.get(sha256, half, resume=True, progress=seen.append)
    assert half.getvalue() == content
    assert sum(seen) == len(content)


@pytest.mark.parametrize("wrong", [b"something else", b"x" * 3_000_000])
def test_the_half_of_something_else_is_replaced(store: Store, wrong: bytes) -> None:
    content = os.urandom(2_500_000)
    sha256, _ = store.put(io.BytesIO(content))
    seen: list[int] = []
    half = io.BytesIO(wrong)
    store.get(sha256, half, resume=True, progress=seen.append)
    assert half.getvalue() == content
    assert sum(seen) == len(content)


def test_an_error_while_reading_leaves_nothing(store: Store) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise OSError("the disk under it is gone")
            return super().read(5)

    with pytest.raises(Exception, match="the disk under it is gone"):
        store.put(Broken(b"only half of this is read"))
    assert list(store.entries()) == []
    assert store.sweep(0.0) == 0


def test_writers_of_one_content_at_once(store: Store) -> None:
    content, names = os.urandom(1_000_000), []
    threads = [
        threading.Thread(target=lambda: names.append(store.put(io.BytesIO(content))[0]))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 6
    assert content_of(store, *set(names)) == content
    assert store.sweep(0.0) == 0


def test_what_is_not_what_its_name_says_is_told(folder: FolderStore) -> None:
    sha256, _ = folder.put(io.BytesIO(b"hello"))
    (folder.root / sha256[:2] / sha256).write_bytes(b"jello")
    with pytest.raises(StoreDamaged, match="other content than its name says"):
        content_of(folder, sha256)


def test_a_truncated_object_is_healed_by_putting_it_again(folder: FolderStore) -> None:
    sha256, _ = folder.put(io.BytesIO(b"hello"))
    (folder.root / sha256[:2] / sha256).write_bytes(b"")
    folder.put(io.BytesIO(b"hello"))
    assert content_of(folder, sha256) == b"hello"


def test_deleting_spares_what_is_young(folder: FolderStore) -> None:
    sha256, _ = folder.put(io.BytesIO(b"hello"))
    path = folder.root / sha256[:2] / sha256
    assert not folder.delete(sha256, 3600.0)
    os.utime(path, (1, 1))
    folder.put(io.BytesIO(b"hello"))
    assert not folder.delete(sha256, 3600.0), "putting it again did not make it young"
    os.utime(path, (1, 1))
    assert folder.delete(sha256, 3600.0)
    assert not folder.has(sha256)
    assert not folder.delete(sha256, 0.0)


def test_putting_wins_over_deleting_at_once(folder: FolderStore) -> None:
    """Whoever puts an old object while it is deleted finds it there afterwards."""
    content = b"wanted again"
    sha256 = hashlib.sha256(content).hexdigest()
    path = folder.root / sha256[:2] / sha256
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        folder.put(io.BytesIO(content))
        os.utime(path, (1, 1))
        deleting = threading.Thread(target=folder.delete, args=(sha256, 3600.0))
        deleting.start()
        folder.put(io.BytesIO(content))
        deleting.join()
        assert content_of(folder, sha256) == content


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreRefused, match=r"file/store.*check its path and rights"):
        open_store((tmp_path / "file" / "store").as_uri()).put(io.BytesIO(b"x"))


@pytest.mark.parametrize("url", ["nosuch://bucket/x", "http://head:port", "file+x://", "http://"])
def test_an_unknown_scheme_says_so(url: str) -> None:
    with pytest.raises(StoreRefused, match=r"store .*: |is no collector URL"):
        open_store(url).check()


def test_a_store_without_times_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"memory://{uuid.uuid4().hex}")
    store.put(io.BytesIO(b"x"))
    monkeypatch.setattr("queue_runner.store.remote._TIME_KEYS", ())
    with pytest.raises(Unsupported, match="does not say how old"):
        list(store.entries())


@pytest.fixture(autouse=True)
def _no_memory_left_behind() -> Iterator[None]:
    yield
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def test_a_mark_means_what_it_was_given_last(store: Store) -> None:
    first, second = (store.put(io.BytesIO(text))[0] for text in (b"first", b"second"))
    assert (store.marked("s-1a.0000003"), list(store.marks())) == (None, [])
    for sha256 in (first, second, second):
        store.mark("s-1a.0000003", sha256)
        assert store.marked("s-1a.0000003") == sha256
    store.mark("other", first)
    assert sorted(store.marks()) == [("other", first), ("s-1a.0000003", second)]
    assert {entry.sha256 for entry in store.entries()} == {first, second}
    store.unmark("s-1a.0000003")
    store.unmark("s-1a.0000003")
    assert list(store.marks()) == [("other", first)]


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden", "a" * 201, "x\0"])
def test_a_mark_stays_where_marks_are(store: Store, name: str) -> None:
    for call in (store.marked, store.unmark, lambda name: store.mark(name, EMPTY)):
        with pytest.raises(NotFound):
            call(name)
