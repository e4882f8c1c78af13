"""The collector's HTTP against its own OpenAPI document, and each of its routes against hostile clients."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import schemathesis
import schemathesis.specs.openapi.checks as checks
from hypothesis import HealthCheck, settings
from starlette.applications import Starlette
from starlette.routing import Route

from queue_runner.collector import following, waiting
from queue_runner.collector import http as serving
from queue_runner.collector.database import Database
from queue_runner.collector.described import api_paths
from queue_runner.collector.http import make_app
from queue_runner.collector.metrics import Counters, Metrics
from queue_runner.collector.openapi import document
from queue_runner.collector.routes import Api, wait_s
from queue_runner.collector.server import HttpServer
from queue_runner.collector.store_routes import STORE_PATHS, Shelf
from queue_runner.model import Failure, Result, State, StudyRecord
from queue_runner.store.folder import FolderStore
from queue_runner.store.uploads import Limits, Uploads

#: They run with less patience than others, and so together.
pytestmark = pytest.mark.xdist_group("openapi")

TOKEN = "a-token-of-these-tests"
STUDY = "s-0123456789"
JOB = f"{STUDY}.0000001"
CANARY = "what no request may reach"


@dataclass(frozen=True)
class Served:
    """`root`: with the database, the store, and files beside them that are nobody's business."""

    app: Starlette
    url: str
    root: Path

    def ask(
        self, method: str, path: str, token: str | None = TOKEN, body: bytes | None = None
    ) -> tuple[int, bytes]:
        """The path goes out as it stands here: a client that is polite would tidy it up."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def routes(self) -> list[tuple[str, str]]:
        """All that the application has, so that a new one is among them."""
        found = [
            (method, route.path)
            for route in self.app.routes
            if isinstance(route, Route)
            for method in sorted((route.methods or set()) - {"HEAD"})
        ]
        assert len(found) == sum(len((r.methods or set()) - {"HEAD"}) for r in self.app.routes)  # type: ignore[attr-defined]
        assert len(found) >= 23
        return found


def _fill(database: Database) -> None:
    study = StudyRecord(STUDY, "s", "command", 2, ("x",), {"study": "s"}, None, "q", 1.0)
    failure = Failure("exit", "it broke", "run", 1)
    database.apply(
        [
            study,
            Result(f"{STUDY}.0000000", STUDY, 0, 1, State.SUCCEEDED, True, {"x": 1}, {"y": 1.5}),
            Result(JOB, STUDY, 1, 1, State.FAILED, True, {"x": 2}, failure=failure, log_tail="oh"),
        ]
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("served")
    database = Database(f"sqlite:///{root}/c.sqlite")
    _fill(database)
    store = FolderStore(root / "store")
    uploads = Uploads(store, store.uploads, Limits(object_bytes=2**30))
    shelf = Shelf(store, uploads, database.references, database.is_finished)
    for name in ("canary", hashlib.sha256(b"canary").hexdigest()):
        (root / name).write_text(CANARY)

    def tell(request: Any) -> None:
        database.apply([request])

    app = make_app(Api(database, tell), Metrics(database, Counters()), TOKEN, shelf)
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        # what is asked for is checked, and nobody is kept waiting
        patch.setattr(waiting, "wait_s", lambda request: min(wait_s(request), 0))
        patch.setattr(following, "LASTS_S", 0.0)
        yield Served(app, server.url, root)
    server.stop()
    database.close()


#: What a document cannot say. Who may come in is asked of each route below; a piece that is well formed may
#: be no part of what its name says; `gc` is a name that no object has.
BEYOND = (
    ("", checks.ignored_auth),
    ("PATCH /v1/store/{sha256}/upload", checks.positive_data_acceptance),
    ("POST /v1/store/gc", checks.unsupported_method),
    ("POST /v1/store/gc", checks.allow_header_conformance),
)
DOCUMENT = document("0", api_paths(), STORE_PATHS)
#: A body may break the schema and be too large: either is a reason to refuse it.
REFUSALS = [
    "400",
    "401",
    "403",
    "404",
    "405",
    "406",
    "409",
    "413",
    "415",
    "422",
    "428",
    "429",
    "5xx",
]
CONFIG = schemathesis.Config.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}}}
)
schema = schemathesis.openapi.from_dict(DOCUMENT, config=CONFIG)


@schema.parametrize()
@settings(max_examples=25, derandomize=True, suppress_health_check=list(HealthCheck))
def test_it_keeps_to_its_own_document(case: Any, served: Served) -> None:
    beyond = [check for label, check in BEYOND if label in ("", case.operation.label)]
    headers = {"authorization": f"Bearer {TOKEN}"}
    case.call_and_validate(base_url=served.url, headers=headers, excluded_checks=beyond)


def test_the_document_has_every_route_and_what_it_answers(served: Served) -> None:
    told = json.loads(served.ask("GET", "/openapi.json")[1])
    paths: dict[str, dict[str, Any]] = told["paths"]
    assert paths == DOCUMENT["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert described == set(served.routes())
    for methods in paths.values():
        for operation in methods.values():
            for code, answer in operation["responses"].items():
                assert answer["content"], f"{operation['summary']}: {code}"


# -- who has no token -----------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], f"{TOKEN}x", TOKEN.upper(), "ä"])
def test_nothing_but_health_without_the_token(served: Served, token: str | None) -> None:
    for method, path in served.routes():
        status, answer = served.ask(method, _filled(path), token, b"{}")
        if path == "/healthz":
            assert status == 200
        else:
            assert (status, b"unauthorized" in answer) == (401, True), f"{method} {path}"
            assert STUDY.encode() not in answer


def test_it_is_the_constant_time_compare_that_lets_in(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for verdict in (True, False):
        monkeypatch.setattr(serving.hmac, "compare_digest", lambda *_, said=verdict: said)
        for method, path in served.routes():
            if path != "/healthz":
                status, _ = served.ask(method, _filled(path), "wrong" if verdict else TOKEN, b"{}")
                assert (status != 401) == verdict


def _filled(path: str, name: str = "a") -> str:
    return re.sub(r"\{\w+\}", lambda _: name, path)


# -- the file system ------------------------------------------------------------------------------------

#: As they stand in a path or a query; `\\` and blanks and the like are not among what a client sends.
HOSTILE = (
    "../canary", "..%2fcanary", "..%2Fcanary", "%2e%2e%2fcanary", "%2e%2e/canary", "%2e%2e", "..", ".",
    "..%5ccanary", "..\\canary", "....//canary", "%252e%252e%252fcanary", "%c0%ae%c0%ae%c0%afcanary",
    "/etc/passwd", "%2fetc%2fpasswd", "//etc/passwd", "file:%2f%2f%2fetc%2fpasswd", "~root", "C:%5ccanary",
    "canary%00", "%00", "canary%00.txt", "%0a", "canary%0d%0a", "%ff%fe", "a" * 5000, "x/../../canary",
    "CON", "%E2%80%AEcanary", "*", "..%00%2fcanary", "{0}", "$HOME", "%24%28id%29", "'%20or%20''='",
)  # fmt: skip


class Opened:
    """What a collector's threads open, move and remove while `watching`; Python says so itself (PEP 578)."""

    EVENTS = ("open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.utime", "os.link", "os.listdir",
              "os.symlink", "os.truncate", "os.chmod", "os.scandir", "glob.glob")  # fmt: skip
    #: The loop of `HttpServer`, and the pool where its answers are made.
    THREADS = ("collector-http", "AnyIO worker thread")

    def __init__(self) -> None:
        self.watching = False
        self.paths: set[str] = set()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        ours = threading.current_thread().name.startswith(self.THREADS)
        if self.watching and ours and event in self.EVENTS:
            self.paths.update(str(each) for each in arguments if isinstance(each, str | Path))


@pytest.fixture(scope="module")
def opened() -> Opened:
    return Opened()


def test_what_the_collector_opens_is_seen(served: Served, opened: Opened) -> None:
    sha256, _ = FolderStore(served.root / "store").put(io.BytesIO(b"kept"))
    opened.paths.clear()
    opened.watching = True
    try:
        assert served.ask("GET", f"/v1/store/{sha256}") == (200, b"kept")
    finally:
        opened.watching = False
    assert [path for path in opened.paths if path.startswith(str(served.root / "store"))]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_request_reaches_the_file_system(served: Served, opened: Opened, hostile: str) -> None:
    before = _tree(served.root)
    opened.paths.clear()
    opened.watching = True
    try:
        for method, path in served.routes():
            _try(served, method, path, hostile)
    finally:
        opened.watching = False
    assert _tree(served.root) == before
    # beside its own, it may look at the process (metrics) and what Python loads late
    own = (
        str(served.root / "store"),
        str(served.root / "c.sqlite"),
        "/proc/",
        sys.prefix,
        sys.base_prefix,
    )
    assert [
        path for path in opened.paths if path.startswith("/") and not path.startswith(own)
    ] == []
    assert [path for path in opened.paths if "canary" in path or ".." in path] == []


def _try(served: Served, method: str, path: str, hostile: str) -> None:
    """In each place of the route: the parts of its path, each parameter, each header and value of a body."""
    names = ("limit", "after", "cursor", "state", "format", "offset", "size_bytes", "path", "file")
    targets = [f"{_filled(path, JOB)}?{name}={hostile}" for name in names]
    bodies = [b"{}", b'{"jobs": ["%s"]}' % hostile.encode(), b'{"sha256": "%s"}' % hostile.encode()]
    if "{" in path:
        targets.append(_filled(path, hostile))
    for target in targets:
        for body in bodies if method in ("POST", "PUT") else (None,):
            # a target is bytes to begin with; what no client would send is tried in another form above
            status, answer = served.ask(method, target, body=body)
            assert CANARY.encode() not in answer, target
            assert b"root:" not in answer, target
            assert status < 500, f"{method} {target}: {status} {answer!r}"
            if "{" in path and target == targets[-1] and method != "DELETE":
                assert status in (400, 404, 405, 413), f"{method} {target}: {status} {answer!r}"


def _tree(root: Path) -> set[tuple[str, bytes]]:
    """Names and contents of all but the database."""
    return {
        (str(path), path.read_bytes())
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith("c.sqlite") and "locks" not in path.parts
    }


# -- sizes ----------------------------------------------------------------------------------------------


def test_no_route_takes_a_body_without_end(served: Served) -> None:
    for method, path in served.routes():
        if method in ("POST", "PUT", "PATCH"):
            query = f"?{urlencode({'offset': 0, 'size_bytes': 2**29})}" if method == "PATCH" else ""
            target = _filled(path, "0" * 64) + query
            status, answer = served.ask(method, target, body=b" " * (4 * 2**20 + 1))
            assert (status, b"too-big" in answer) == (413, True), f"{method} {path}"


def test_no_route_takes_a_head_without_end(served: Served) -> None:
    for method, path in served.routes():
        try:
            status, answer = served.ask(method, f"{_filled(path)}?state={'a' * 2**20}")
        except ConnectionError:
            continue  # it hung up on us while we were speaking
        assert status == 400, f"{method} {path}: {answer!r}"
        assert b"Invalid HTTP request" in answer
