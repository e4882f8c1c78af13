"""Resumable uploads: pieces in any order, from several senders, across restarts, within limits."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from queue_runner.errors import NotFound, StoreDamaged, StoreFull, TooBig
from queue_runner.store import Store, open_store
from queue_runner.store.folder import FolderStore
from queue_runner.store.uploads import Limits, Standing, Uploads

CONTENT = os.urandom(1_000_000)
NAME = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)


def name_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    name = uuid.uuid4().hex
    return open_store(str(tmp_path / "store") if request.param == "folder" else f"memory://{name}")


def make(store: Store, tmp_path: Path, **limits: int) -> Uploads:
    folder = store.uploads if isinstance(store, FolderStore) else tmp_path / "staging" / "uploads"
    return Uploads(store, folder, Limits(**limits))


@pytest.fixture
def uploads(store: Store, tmp_path: Path) -> Uploads:
    return make(store, tmp_path)


def content_of(store: Store, sha256: str) -> bytes:
    out = io.BytesIO()
    store.get(sha256, out)
    return out.getvalue()


def test_pieces_add_up(uploads: Uploads, store: Store) -> None:
    assert uploads.standing(NAME) == Standing(0, False)
    assert uploads.append(NAME, 0, SIZE, CONTENT[:400_000]) == Standing(400_000, False)
    assert not store.has(NAME)
    assert uploads.append(NAME, 400_000, SIZE, CONTENT[400_000:]) == Standing(SIZE, True)
    assert content_of(store, NAME) == CONTENT
    assert uploads.standing(NAME) == Standing(SIZE, True)
    assert uploads.append(NAME, 0, SIZE, CONTENT[:9]) == Standing(SIZE, True)


def test_an_object_that_lost_a_part_is_healed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    assert isinstance(store, FolderStore)
    uploads = make(store, tmp_path)
    store.put(io.BytesIO(CONTENT))
    (store.root / NAME[:2] / NAME).write_bytes(CONTENT[:7])
    assert uploads.append(NAME, 0, SIZE, CONTENT[:10]) == Standing(10, False)
    assert uploads.append(NAME, 10, SIZE, CONTENT[10:]) == Standing(SIZE, True)
    assert content_of(store, NAME) == CONTENT


def test_nothing_can_be_uploaded(uploads: Uploads, store: Store) -> None:
    assert uploads.append(name_of(b""), 0, 0, b"") == Standing(0, True)
    assert content_of(store, name_of(b"")) == b""


@pytest.mark.parametrize("offset", [0, 399_999, 400_001, SIZE])
def test_a_piece_that_begins_elsewhere_changes_nothing(
    uploads: Uploads, store: Store, offset: int
) -> None:
    uploads.append(NAME, 0, SIZE, CONTENT[:400_000])
    assert uploads.append(NAME, offset, SIZE, b"x") == Standing(400_000, False)
    uploads.append(NAME, 400_000, SIZE, CONTENT[400_000:])
    assert content_of(store, NAME) == CONTENT


def test_it_goes_on_after_a_restart(uploads: Uploads, store: Store, tmp_path: Path) -> None:
    uploads.append(NAME, 0, SIZE, CONTENT[:400_000])
    again = make(store, tmp_path)
    assert again.standing(NAME) == Standing(400_000, False)
    again.append(NAME, 400_000, SIZE, CONTENT[400_000:])
    assert content_of(store, NAME) == CONTENT


def test_it_goes_on_where_all_was_received_before_a_kill(
    uploads: Uploads, store: Store, tmp_path: Path
) -> None:
    uploads.append(NAME, 0, SIZE, CONTENT[:400_000])
    folder = store.uploads if isinstance(store, FolderStore) else tmp_path / "staging" / "uploads"
    (folder / f"{NAME}.up").write_bytes(CONTENT)
    assert uploads.standing(NAME) == Standing(SIZE, False)
    assert uploads.append(NAME, SIZE, SIZE, b"") == Standing(SIZE, True)
    assert content_of(store, NAME) == CONTENT


def test_other_content_is_thrown_away(uploads: Uploads, store: Store) -> None:
    uploads.append(NAME, 0, SIZE, b"wrong")
    with pytest.raises(StoreDamaged, match="send it again"):
        uploads.append(NAME, 5, SIZE, CONTENT[5:])
    assert not store.has(NAME)
    assert uploads.append(NAME, 0, SIZE, CONTENT) == Standing(SIZE, True)


def test_more_than_was_announced_is_thrown_away(uploads: Uploads) -> None:
    uploads.append(NAME, 0, SIZE, CONTENT[:10])
    with pytest.raises(StoreDamaged, match="11 bytes of an upload of 10"):
        uploads.append(NAME, 10, 10, b"x")
    assert uploads.standing(NAME) == Standing(0, False)


@pytest.mark.parametrize("name", ["../x", "", "0" * 63, "G" * 64])
def test_bad_names(uploads: Uploads, name: str) -> None:
    with pytest.raises(NotFound):
        uploads.append(name, 0, 1, b"x")
    with pytest.raises(NotFound):
        uploads.standing(name)


def test_many_senders_of_one_content(uploads: Uploads, store: Store) -> None:
    def send(number: int) -> Standing:
        standing = uploads.standing(NAME)
        while not standing.complete:
            at = standing.received_bytes
            standing = uploads.append(NAME, at, SIZE, CONTENT[at : at + 50_000])
        return standing

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(send, range(6))) == {Standing(SIZE, True)}
    assert content_of(store, NAME) == CONTENT


def test_an_upload_that_another_has_just_completed_is_no_obstacle(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = make(store, tmp_path, quota_bytes=10 * SIZE)
    monkeypatch.setattr(Path, "exists", lambda path: True)
    monkeypatch.setattr(Path, "glob", lambda path, pattern: [path / "gone.up"])
    assert uploads.standing(NAME) == Standing(0, False)
    assert uploads.append(NAME, 0, SIZE, CONTENT).complete


def test_a_file_has_a_limit(store: Store, tmp_path: Path) -> None:
    uploads = make(store, tmp_path, object_bytes=SIZE - 1)
    with pytest.raises(TooBig, match=f"{SIZE} bytes.*{SIZE - 1} at most.*--store-max-file"):
        uploads.append(NAME, 0, SIZE, CONTENT[:10])
    assert uploads.standing(NAME) == Standing(0, False)


def test_the_quota_counts_what_is_there_and_what_comes(store: Store, tmp_path: Path) -> None:
    store.put(io.BytesIO(b"x" * 500))
    uploads = make(store, tmp_path, quota_bytes=1000)
    one, other = b"1" * 300, b"2" * 300
    uploads.append(name_of(one), 0, 300, one[:290])
    with pytest.raises(StoreFull, match=r"quota of 1000 bytes.*store gc.*--store-quota"):
        uploads.append(name_of(other), 0, 300, other)
    assert uploads.standing(name_of(other)) == Standing(0, False)
    assert uploads.append(name_of(one), 290, 300, one[290:]).complete
    fits = b"3" * 200
    assert uploads.append(name_of(fits), 0, 200, fits).complete
    with pytest.raises(StoreFull):
        uploads.append(name_of(b"4"), 0, 1, b"4")


def test_room_that_was_made_is_seen(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    sha256, _ = store.put(io.BytesIO(b"x" * 900))
    uploads = make(store, tmp_path, quota_bytes=1000)
    with pytest.raises(StoreFull):
        uploads.append(name_of(b"1" * 200), 0, 200, b"1" * 200)
    assert store.delete(sha256, 0.0)
    uploads.recount()
    assert uploads.append(name_of(b"1" * 200), 0, 200, b"1" * 200).complete


def test_old_uploads_are_swept(uploads: Uploads) -> None:
    uploads.append(NAME, 0, SIZE, CONTENT[:10])
    assert uploads.sweep(3600.0) == 0
    assert uploads.sweep(0.0, dry_run=True) == 10
    assert uploads.sweep(0.0) == 10
    assert uploads.standing(NAME) == Standing(0, False)
    assert uploads.append(NAME, 0, SIZE, CONTENT).complete
