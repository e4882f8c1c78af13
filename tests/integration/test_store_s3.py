"""The store on S3: moto's server, a real one as far as HTTP and signatures go."""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import s3fs

from queue_runner.errors import NotFound, StoreDamaged, StoreRefused, StoreUnavailable
from queue_runner.store import Store, open_store
from queue_runner.store.garbage import collect_garbage
from queue_runner.store.remote import RemoteStore
from queue_runner.testing.servers.ports import free_port
from tests.integration.system import System, eventually, study_folder

pytestmark = [pytest.mark.s3, pytest.mark.xdist_group("s3")]
#: In an environment of its own: scripts/moto.
MOTO = Path(__file__).parents[2] / ".cache/moto/bin/moto_server"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    port = free_port()
    command = [str(MOTO), "-H", "127.0.0.1", "-p", str(port)]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            eventually(lambda: _answers(url))
            yield url
        finally:
            server.terminate()
            server.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = f"bucket-{os.urandom(6).hex()}"
    # fsspec remembers instances by their arguments, of which the environment is none
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir(name)
    return name


@pytest.fixture
def store(bucket: str) -> Store:
    opened = open_store(f"s3://{bucket}/lab/store")
    assert isinstance(opened, RemoteStore)
    return opened


def content_of(store: Store, sha256: str) -> bytes:
    out = io.BytesIO()
    store.get(sha256, out)
    return out.getvalue()


@pytest.mark.parametrize("size_bytes", [0, 10, 12_000_000])
def test_content_comes_back(store: Store, size_bytes: int) -> None:
    content = os.urandom(size_bytes)
    sha256, _ = store.put(io.BytesIO(content))
    assert store.put(io.BytesIO(content)) == (sha256, size_bytes)
    assert store.size_bytes(sha256) == size_bytes
    assert content_of(store, sha256) == content
    half = io.BytesIO(content[: size_bytes // 2])
    store.get(sha256, half, resume=True)
    assert half.getvalue() == content
    assert [entry.sha256 for entry in store.entries()] == [sha256]


def test_folders_travel_as_bundles(store: Store, tmp_path: Path) -> None:
    (tmp_path / "case" / "system").mkdir(parents=True)
    (tmp_path / "case" / "system" / "controlDict").write_text("application icoFoam;\n")
    store.get_folder(store.put_folder(tmp_path / "case"), tmp_path / "copy")
    assert (tmp_path / "copy" / "system" / "controlDict").read_text() == "application icoFoam;\n"


def test_what_is_not_there_or_damaged(store: Store, bucket: str) -> None:
    with pytest.raises(NotFound):
        content_of(store, "0" * 64)
    sha256, _ = store.put(io.BytesIO(b"hello"))
    key = f"lab/store/{sha256[:2]}/{sha256}"
    s3fs.S3FileSystem().pipe_file(f"{bucket}/{key}", b"jello")
    with pytest.raises(StoreDamaged):
        content_of(store, sha256)


def test_what_another_client_put_is_seen(store: Store, bucket: str) -> None:
    sha256, _ = store.put(io.BytesIO(b"one"))
    assert store.has(sha256)
    s3fs.S3FileSystem().rm_file(f"{bucket}/lab/store/{sha256[:2]}/{sha256}")
    assert not store.has(sha256)
    store.put(io.BytesIO(b"one"))
    assert content_of(store, sha256) == b"one"


def test_writers_of_one_content_at_once(store: Store) -> None:
    content, names = os.urandom(500_000), []
    threads = [
        threading.Thread(target=lambda: names.append(store.put(io.BytesIO(content))[0]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 4
    assert content_of(store, *set(names)) == content
    assert store.sweep(0.0) == 0


def test_a_failed_write_leaves_nothing(store: Store) -> None:
    class Broken(io.BytesIO):
        passes = 0

        def read(self, size: int | None = -1) -> bytes:
            if self.tell() and self.passes > 1:
                raise OSError("the disk under it is gone")
            return super().read(1_000_000)

        def seek(self, offset: int, whence: int = 0) -> int:
            self.passes += 1
            return super().seek(offset, whence)

    with pytest.raises(StoreUnavailable, match="the disk under it is gone"):
        store.put(Broken(os.urandom(8_000_000)))
    assert list(store.entries()) == []
    assert store.sweep(0.0) == 0


def test_garbage_spares_the_young(store: Store) -> None:
    needed, orphan = (store.put(io.BytesIO(text))[0] for text in (b"needed", b"orphan"))
    found = collect_garbage(
        store, [needed], finished=lambda name: False, older_than_s=0.0, dry_run=True
    )
    assert (found.objects, found.removed) == (2, 1)
    # what is minutes old may be somebody's who has just found it there
    assert (
        collect_garbage(
            store, [needed], finished=lambda name: False, older_than_s=0.0, dry_run=False
        ).removed
        == 0
    )
    assert store.has(orphan)


def test_no_bucket_no_server(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    with pytest.raises((StoreRefused, StoreUnavailable), match=r"store s3://nosuch-.*"):
        open_store(f"s3://nosuch-{bucket}/x").put(io.BytesIO(b"x"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreUnavailable, match="s3://"):
        open_store(f"s3://{bucket}/x").check()


@pytest.mark.parametrize("for_all", [True, False], ids=["everybody's", "behind the collector"])
def test_a_study_through_s3(bucket: str, tmp_path: Path, zeromq_url: str, for_all: bool) -> None:
    url = f"s3://{bucket}/lab"
    system = System(tmp_path, zeromq_url)
    system.env["QUEUE_RUNNER_STORE"] = url
    try:
        system.start_collector()
        if not for_all:
            # clients and workers have no credentials then
            for name in ("QUEUE_RUNNER_STORE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                del system.env[name]
        system.start_worker()
        path = study_folder(
            system,
            "study: s\nkind: command\nparameters: {x: [1, 2]}\nkeep: [said]\n"
            "command: {files: ., run: [./say, '{x}']}\n",
            say="#!/bin/sh\necho $1 | tee said\n",
        )
        done = system.call("submit", str(path), "--wait")
        assert done.returncode == 0, done.stderr + system.log("worker")
        system.ok("fetch", "s", "-o", "back")
        assert sorted(file.read_text() for file in tmp_path.glob("back/*/said")) == ["1\n", "2\n"]
        assert system.json("store", "status")["store"] == url
        assert system.json("store", "gc")["removed"] == 0
    finally:
        system.stop()


def test_marks(store: Store) -> None:
    first, second = (store.put(io.BytesIO(text))[0] for text in (b"first", b"second"))
    assert (store.marked("s.0000000"), list(store.marks())) == (None, [])
    store.mark("s.0000000", first)
    store.mark("s.0000000", second)
    assert list(store.marks()) == [("s.0000000", second)]
    store.unmark("s.0000000")
    store.unmark("s.0000000")
    assert store.marked("s.0000000") is None
