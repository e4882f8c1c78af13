"""The collector's store over a real socket: transfers that break, limits, tokens, hostile requests."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from queue_runner.collector.database import Database
from queue_runner.collector.http import make_app
from queue_runner.collector.metrics import Metrics
from queue_runner.collector.routes import Api
from queue_runner.collector.server import HttpServer
from queue_runner.collector.service import Counters
from queue_runner.collector.store_routes import STORE_PATHS, Shelf
from queue_runner.errors import NotFound, StoreFull, StoreRefused, StoreUnavailable, TooBig
from queue_runner.model import Artifact, Result, State, StudyRecord
from queue_runner.store import open_store
from queue_runner.store.collector import CollectorStore
from queue_runner.store.folder import FolderStore
from queue_runner.store.uploads import PIECE_BYTES, Limits, Uploads

TOKEN = "a-token-of-the-test"
MIB = 1024 * 1024


class Served:
    """A collector's HTTP server that can be stopped and started again on its port."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self.database = Database(f"sqlite:///{root}/c.sqlite")
        folder = open_store(str(root / "store"))
        assert isinstance(folder, FolderStore)
        self.folder, self._limits, self._port = folder, limits, 0

    def start(self) -> str:
        uploads = Uploads(self.folder, self.folder.uploads, self._limits)
        shelf = Shelf(self.folder, uploads, self.database.references, self.database.is_finished)
        app = make_app(
            Api(self.database, lambda request: None),
            Metrics(self.database, Counters()),
            TOKEN,
            shelf,
        )
        self._server = HttpServer(app, "127.0.0.1", self._port)
        self._port = int(self._server.url.rpartition(":")[2])
        self._server.start()
        return self._server.url

    def stop(self) -> None:
        self._server.stop()


@contextmanager
def serving(root: Path, **limits: int) -> Iterator[tuple[Served, CollectorStore]]:
    served = Served(root, Limits(**limits))
    store = open_store(served.start(), TOKEN)
    assert isinstance(store, CollectorStore)
    yield served, store
    store.close()
    served.stop()
    served.database.close()


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Served, CollectorStore]]:
    with serving(tmp_path) as pair:
        yield pair


@contextmanager
def cutting(url: str, after_bytes: int, times: int) -> Iterator[tuple[str, list[int]]]:
    """A proxy before `url` that cuts its first `times` connections after so many bytes of either way."""
    host, port = url.removeprefix("http://").split(":")
    listener, cuts = socket.create_server(("127.0.0.1", 0)), [0]

    def pump(source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        moved = 0
        try:
            while chunk := source.recv(65536):
                moved += len(chunk)
                if limit is not None and moved > limit:
                    cuts[0] += 1
                    break
                sink.sendall(chunk)
        except OSError:
            pass  # the other direction was cut
        for end in (source, sink):
            with suppress(OSError):  # closed already
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        served = 0
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            served += 1
            limit = after_bytes if served <= times else None
            server = socket.create_connection((host, int(port)))
            ways = [
                threading.Thread(target=pump, args=(*pair, limit))
                for pair in ((client, server), (server, client))
            ]
            for way in ways:
                way.start()
            threading.Thread(target=_close_after, args=(ways, client, server)).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", cuts
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _close_after(ways: list[threading.Thread], *ends: socket.socket) -> None:
    for way in ways:
        way.join()
    for end in ends:
        end.close()


def content_of(store: CollectorStore, sha256: str) -> bytes:
    out = io.BytesIO()
    store.get(sha256, out)
    return out.getvalue()


@pytest.mark.parametrize("size_bytes", [0, 1, PIECE_BYTES, 2 * PIECE_BYTES + 1])
def test_content_comes_back(both: tuple[Served, CollectorStore], size_bytes: int) -> None:
    served, store = both
    content = os.urandom(size_bytes)
    sha256, _ = store.put(io.BytesIO(content))
    assert content_of(store, sha256) == content
    assert store.size_bytes(sha256) == size_bytes
    assert store.put(io.BytesIO(content)) == (sha256, size_bytes)
    assert [entry.sha256 for entry in served.folder.entries()] == [sha256]
    assert served.folder.sweep(0.0) == 0


def test_folders_travel_as_bundles(both: tuple[Served, CollectorStore], tmp_path: Path) -> None:
    (tmp_path / "case" / "system").mkdir(parents=True)
    (tmp_path / "case" / "system" / "controlDict").write_text("application icoFoam;\n")
    _, store = both
    store.get_folder(store.put_folder(tmp_path / "case"), tmp_path / "copy")
    assert (tmp_path / "copy" / "system" / "controlDict").read_text() == "application icoFoam;\n"


@pytest.mark.parametrize("name", ["0" * 64, "../../etc/passwd", "%2e%2e", "A" * 64])
def test_what_is_not_there(both: tuple[Served, CollectorStore], name: str) -> None:
    _, store = both
    with pytest.raises(NotFound):
        content_of(store, name)
    assert not store.has("0" * 64)


def test_broken_connections_cost_only_what_they_carried(
    both: tuple[Served, CollectorStore],
) -> None:
    _, direct = both
    content = os.urandom(5 * PIECE_BYTES)
    with cutting(direct.name, 2 * PIECE_BYTES, times=3) as (url, cuts):
        store = open_store(url, TOKEN)
        sha256, _ = store.put(io.BytesIO(content))
        assert cuts[0] >= 2, "the upload was not interrupted"
        store.close()
    with cutting(direct.name, 2 * PIECE_BYTES, times=2) as (url, cuts):
        store = open_store(url, TOKEN)
        seen: list[int] = []
        out = io.BytesIO()
        store.get(sha256, out, progress=seen.append)
        assert cuts[0] == 2, "the download was not interrupted"
        # each byte came once
        assert sum(seen) == len(content)
        assert out.getvalue() == content
        store.close()


def test_an_upload_outlives_the_collector_and_the_client(tmp_path: Path) -> None:
    content = os.urandom(3 * PIECE_BYTES)
    sha256 = hashlib.sha256(content).hexdigest()
    with serving(tmp_path) as (served, store):
        # a client that dies after its first piece
        headers = {"authorization": f"Bearer {TOKEN}"}
        answer = httpx.patch(
            f"{store.name}/v1/store/{sha256}/upload",
            params={"offset": 0, "size_bytes": len(content)},
            content=content[:PIECE_BYTES],
            headers=headers,
        )
        assert answer.json() == {"received_bytes": PIECE_BYTES, "complete": False}
        assert not store.has(sha256)
        served.stop()
        served.start()
        sent = Counting(content)
        store.put(sent)
        # once to hash it, and the rest to send it
        assert sent.read_bytes == len(content) + 2 * PIECE_BYTES
        assert content_of(store, sha256) == content


class Counting(io.BytesIO):
    read_bytes = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.read_bytes += len(content)
        return content


def test_a_transfer_waits_for_a_collector_that_restarts(
    both: tuple[Served, CollectorStore],
) -> None:
    served, store = both
    content = os.urandom(4 * PIECE_BYTES)
    restarts: list[bool] = []

    class Restarting(Counting):
        def read(self, size: int | None = -1) -> bytes:
            if self.read_bytes >= len(content) + 2 * PIECE_BYTES and not restarts:
                restarts.append(True)
                served.stop()
                threading.Timer(1.0, served.start).start()
            return super().read(size)

    sha256, _ = store.put(Restarting(content))
    assert restarts
    assert content_of(store, sha256) == content


def test_many_senders_of_one_content(both: tuple[Served, CollectorStore]) -> None:
    served, store = both
    content = os.urandom(3 * PIECE_BYTES)
    names: list[str] = []
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
    assert served.folder.sweep(0.0) == 0


def test_a_file_that_changes_meanwhile(both: tuple[Served, CollectorStore]) -> None:
    _, store = both

    class Growing(io.BytesIO):
        """Other bytes at each pass, as a log that something still writes to."""

        passes = 0

        def seek(self, offset: int, whence: int = 0) -> int:
            if offset == 0:
                self.passes += 1
                with self.getbuffer() as content:
                    content[0] = self.passes % 251
            return super().seek(offset, whence)

    with pytest.raises(StoreUnavailable, match="still being written to"):
        store.put(Growing(b"x" * 100))


def test_memory_is_bounded(both: tuple[Served, CollectorStore], tmp_path: Path) -> None:
    _, store = both
    path = tmp_path / "big"
    with path.open("wb") as out:
        out.truncate(128 * MIB)
    tracemalloc.start()
    try:
        with path.open("rb") as source:
            sha256, size_bytes = store.put(source)
        with (tmp_path / "back").open("w+b") as out:
            store.get(sha256, out)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size_bytes == (tmp_path / "back").stat().st_size == 128 * MIB
    # client and collector together: a few pieces
    assert peak_bytes < 10 * PIECE_BYTES


def test_limits_have_names(tmp_path: Path) -> None:
    with serving(tmp_path, object_bytes=1000, quota_bytes=2500) as (_, store):
        with pytest.raises(TooBig, match=r"1001 bytes.*1000 at most.*--store-max-file"):
            store.put(io.BytesIO(b"x" * 1001))
        for letter in (b"1", b"2"):
            store.put(io.BytesIO(letter * 1000))
        with pytest.raises(StoreFull, match=r"quota of 2500 bytes.*queue-runner store gc"):
            store.put(io.BytesIO(b"3" * 1000))
        usage = store.usage()
        assert (usage["objects"], usage["size_bytes"]) == (2, 2000)
        assert (usage["quota_bytes"], usage["object_bytes"]) == (2500, 1000)


def test_a_full_disk_is_told(both: tuple[Served, CollectorStore]) -> None:
    served, store = both
    served.folder.root.mkdir()
    os.symlink("/dev/full", served.folder.root / "uploads")
    served.folder.uploads.unlink()
    served.folder.uploads.mkdir()
    sha256 = hashlib.sha256(b"x" * 100_000).hexdigest()
    os.symlink("/dev/full", served.folder.uploads / f"{sha256}.up")
    with pytest.raises(StoreFull, match="No space left on device"):
        store.put(io.BytesIO(b"x" * 100_000))


def test_tokens(both: tuple[Served, CollectorStore]) -> None:
    _, store = both
    sha256, _ = store.put(io.BytesIO(b"secret"))
    for token in (None, "wrong"):
        other = open_store(store.name, token)
        with pytest.raises(StoreRefused, match="QUEUE_RUNNER_TOKEN_FILE"):
            other.check()
        with pytest.raises(StoreRefused, match="QUEUE_RUNNER_TOKEN_FILE"):
            other.get(sha256, io.BytesIO())
        with pytest.raises(StoreRefused, match="QUEUE_RUNNER_TOKEN_FILE"):
            other.put(io.BytesIO(b"x"))
        other.close()


def test_who_is_no_collector() -> None:
    with pytest.raises(StoreUnavailable, match="Is the collector running"):
        open_store("http://127.0.0.1:9").check()


def test_an_object_that_lost_a_part_is_healed(both: tuple[Served, CollectorStore]) -> None:
    served, store = both
    content = os.urandom(2 * PIECE_BYTES)
    sha256, _ = store.put(io.BytesIO(content))
    (served.folder.root / sha256[:2] / sha256).write_bytes(content[:7])
    store.put(io.BytesIO(content))
    assert content_of(store, sha256) == content


class Impostor(BaseHTTPRequestHandler):
    """A web server that has an answer to everything."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", "0")))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else b"<html>hello</html>")

    do_HEAD = do_PATCH = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing on stderr."""


def test_another_server_at_its_address() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Impostor) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        store = open_store(f"http://127.0.0.1:{server.server_port}", TOKEN)
        for use in (store.check, lambda: store.has(SHA256), lambda: store.put(io.BytesIO(b"x"))):
            with pytest.raises(StoreRefused, match="is no collector"):
                use()
        store.close()
        server.shutdown()
        thread.join()


@pytest.fixture
def http(both: tuple[Served, CollectorStore]) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=both[1].name, headers=headers) as client:
        yield client


def test_ranges(both: tuple[Served, CollectorStore], http: httpx.Client) -> None:
    sha256, _ = both[1].put(io.BytesIO(b"0123456789"))
    path = f"/v1/store/{sha256}"
    part = http.get(path, headers={"range": "bytes=4-"})
    assert (part.status_code, part.content) == (206, b"456789")
    assert part.headers["content-range"] == "bytes 4-9/10"
    assert http.get(path, headers={"range": "bytes=10-"}).status_code == 416
    for other in ("bytes=-3", "bytes=0-3,5-6", "lines=3-", "bytes=x-"):
        whole = http.get(path, headers={"range": other})
        assert (whole.status_code, whole.content) == (200, b"0123456789")
    head = http.head(path)
    assert (head.headers["content-length"], head.content) == ("10", b"")


Asking = Callable[[httpx.Client], httpx.Response]
SHA256 = "0" * 64


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (lambda http: http.patch(f"/v1/store/{SHA256}/upload", content=b"x"), 400),
        (lambda http: http.patch(f"/v1/store/{SHA256}/upload?offset=-1&size_bytes=3"), 400),
        (lambda http: http.patch(f"/v1/store/{SHA256}/upload?offset=0&size_bytes=1e9"), 400),
        (lambda http: http.patch("/v1/store/xyz/upload?offset=0&size_bytes=3"), 404),
        (lambda http: http.get("/v1/store/xyz/upload"), 404),
        (lambda http: http.get("/v1/store/..%2f..%2fetc%2fpasswd"), 404),
        (lambda http: http.post("/v1/store/gc", json={"all": True}), 400),
        (lambda http: http.post("/v1/store/gc", json={"older_than_s": -1}), 400),
        (lambda http: http.post("/v1/store/gc", json={"older_than_s": "NaN"}), 400),
        (lambda http: http.post("/v1/store/gc", json={"older_than_s": "5"}), 400),
        (lambda http: http.post("/v1/store/gc", json={"older_than_s": True}), 400),
        (lambda http: http.post("/v1/store/gc", json={"older_than_s": 10**400}), 400),
        (lambda http: http.post("/v1/store/gc", json={"dry_run": "yes"}), 400),
        (lambda http: http.post("/v1/store/gc", content=b"[" * 1000), 400),
        (lambda http: http.put(f"/v1/store/{SHA256}", content=b"x"), 405),
        (lambda http: http.get("/v1/marks/s.0000000"), 404),
        (lambda http: http.get("/v1/marks/..%2f..%2fetc%2fpasswd"), 404),
        (lambda http: http.put("/v1/marks/.hidden", json={"sha256": SHA256}), 404),
        (lambda http: http.put("/v1/marks/s.0000000", json={"sha256": "../x"}), 400),
        (lambda http: http.put("/v1/marks/s.0000000", json=[SHA256]), 400),
        (lambda http: http.put("/v1/marks/s.0000000", content=b"x" * 2000), 413),
        (
            lambda http: http.patch(
                f"/v1/store/{SHA256}/upload?offset=0&size_bytes=99999999",
                content=b"x" * (PIECE_BYTES + 1),
            ),
            413,
        ),
        (lambda http: http.patch(f"/v1/store/{SHA256}/upload?offset=0&size_bytes=1", content=b"x"), 422),
    ],
)  # fmt: skip
def test_bad_requests(http: httpx.Client, ask: Asking, status: int) -> None:
    answer = ask(http)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]


def test_garbage_is_what_no_study_refers_to(both: tuple[Served, CollectorStore]) -> None:
    served, store = both
    texts = (b"bundle", b"artifact", b"of an attempt", b"orphan")
    bundle, artifact, attempt, orphan = (store.put(io.BytesIO(text))[0] for text in texts)

    def result(number: int, sha256: str, state: State) -> Result:
        kept = (Artifact("log", sha256, 1),)
        final = state is State.SUCCEEDED
        return Result("s.0000000", "s", 0, number, state, final, {}, artifacts=kept)

    served.database.apply(
        [
            StudyRecord("s", "s", "command", 1, (), {}, bundle, "default", 1.0),
            result(1, attempt, State.FAILED),
            result(2, artifact, State.SUCCEEDED),
        ]
    )
    assert store.collect_garbage(86400.0, dry_run=False)["removed"] == 0
    for entry in served.folder.entries():
        os.utime(served.folder.root / entry.sha256[:2] / entry.sha256, (1, 1))
    assert store.collect_garbage(86400.0, dry_run=True)["removed"] == 1
    assert store.has(orphan)
    found = store.collect_garbage(86400.0, dry_run=False)
    assert (found["removed"], found["removed_bytes"], found["objects"]) == (1, len(b"orphan"), 4)
    assert [store.has(name) for name in (bundle, artifact, attempt, orphan)] == [True] * 3 + [False]


def test_asking_for_an_upload_renews_what_is_there(both: tuple[Served, CollectorStore]) -> None:
    served, store = both
    sha256, _ = store.put(io.BytesIO(b"template"))
    path = served.folder.root / sha256[:2] / sha256
    os.utime(path, (1, 1))
    store.put(io.BytesIO(b"template"))
    assert store.collect_garbage(3600.0, dry_run=False)["removed"] == 0


def test_a_mark_over_http(both: tuple[Served, CollectorStore]) -> None:
    served, store = both
    assert store.marked("s.0000000") is None
    sha256, _ = store.put(io.BytesIO(b"x"))
    store.mark("s.0000000", sha256)
    assert store.marked("s.0000000") == sha256 == served.folder.marked("s.0000000")
    store.unmark("s.0000000")
    store.unmark("s.0000000")
    assert store.marked("s.0000000") is None
    with pytest.raises(NotFound):
        store.mark("../s", sha256)


def test_every_route_is_described_and_documented(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    documented = (Path(__file__).parents[2] / "docs" / "store.md").read_text()
    for path, methods in STORE_PATHS.items():
        assert set(methods) <= set(paths[path])
        for method in methods:
            assert f"`{method.upper()} {path}`" in documented
