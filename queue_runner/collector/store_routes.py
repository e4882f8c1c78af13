"""The collector's store over HTTP: objects by their SHA-256, uploads that go on where they broke."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from queue_runner.collector.bodies import read_body
from queue_runner.collector.openapi import SHA256, Plain, as_json, operation, parameter, whole
from queue_runner.collector.routes import BadRequest, known_only
from queue_runner.collector.schemas import schema_of
from queue_runner.errors import NotFound
from queue_runner.store import Store
from queue_runner.store.content import MARK_PATTERN, is_name
from queue_runner.store.garbage import DEFAULT_AGE_S, Collected, collect_garbage
from queue_runner.store.uploads import PIECE_BYTES, Standing, Uploads

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Shelf:
    """The store that a collector serves.

    referenced: lists what its studies need; finished: whether a job of that id has its final result.
    """

    store: Store
    uploads: Uploads
    referenced: Callable[[], Iterable[str]]
    finished: Callable[[str], bool]

    def collect(self, older_than_s: float, dry_run: bool) -> Collected:
        collected = collect_garbage(
            self.store,
            self.referenced(),
            finished=self.finished,
            older_than_s=older_than_s,
            dry_run=dry_run,
        )
        left = self.uploads.sweep(max(older_than_s, DEFAULT_AGE_S), dry_run=dry_run)
        self.uploads.recount()
        return dataclasses.replace(collected, leftover_bytes=collected.leftover_bytes + left)


def store_routes(shelf: Shelf, guard: Callable[[Endpoint], Endpoint]) -> list[Route]:
    """The routes that `STORE_PATHS` describes, each behind `guard`."""
    endpoints = _Endpoints(shelf)
    table: list[tuple[str, str, Endpoint]] = [
        ("GET", "/v1/store", endpoints.usage),
        ("POST", "/v1/store/gc", endpoints.collect),
        ("GET", "/v1/store/{sha256}", endpoints.content),
        ("GET", "/v1/store/{sha256}/upload", endpoints.standing),
        ("PATCH", "/v1/store/{sha256}/upload", endpoints.append),
        ("GET", "/v1/marks/{name}", endpoints.marked),
        ("PUT", "/v1/marks/{name}", endpoints.mark),
        ("DELETE", "/v1/marks/{name}", endpoints.unmark),
    ]
    return [
        Route(path, guard(_strict(endpoint, method)), methods=[method])
        for method, path, endpoint in table
    ]


def _strict(endpoint: Endpoint, method: str) -> Endpoint:
    """Pieces of uploads have parameters; nothing else has."""
    known = ("offset", "size_bytes") if method == "PATCH" else ()

    async def answer(request: Request) -> Response:
        known_only([name for name, _ in request.query_params.multi_items()], known)
        return await endpoint(request)

    return answer


class _Endpoints:
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def usage(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._usage))

    def _usage(self) -> dict[str, Any]:
        store, limits = self._shelf.store, self._shelf.uploads.limits
        objects = size_bytes = 0
        for entry in store.entries():
            objects, size_bytes = objects + 1, size_bytes + entry.size_bytes
        held = {"store": store.name, "objects": objects, "size_bytes": size_bytes}
        return {**held, **dataclasses.asdict(limits)}

    async def collect(self, request: Request) -> Response:
        older_than_s, dry_run = _collection(await read_body(request, 1024))
        collected = await run_in_threadpool(self._shelf.collect, older_than_s, dry_run)
        return JSONResponse(dataclasses.asdict(collected))

    async def content(self, request: Request) -> Response:
        sha256, store = request.path_params["sha256"], self._shelf.store
        size_bytes = await run_in_threadpool(store.size_bytes, sha256)
        if size_bytes is None:
            raise NotFound(f"no object {sha256} in the collector's store")
        offset = _offset(request.headers.get("range"))
        if offset and offset >= size_bytes:
            return Response(status_code=416, headers={"content-range": f"bytes */{size_bytes}"})
        headers = {"content-length": str(size_bytes - (offset or 0)), "accept-ranges": "bytes"}
        if offset:
            headers["content-range"] = f"bytes {offset}-{size_bytes - 1}/{size_bytes}"
        # HEAD: starlette sends what a GET would answer, and the server leaves out the body
        content = store.read(sha256, offset or 0) if request.method == "GET" else iter(())
        status = 206 if offset else 200
        return StreamingResponse(content, status, headers, "application/octet-stream")

    async def standing(self, request: Request) -> Response:
        sha256 = request.path_params["sha256"]
        standing = await run_in_threadpool(self._shelf.uploads.standing, sha256)
        return JSONResponse(dataclasses.asdict(standing))

    async def append(self, request: Request) -> Response:
        sha256 = request.path_params["sha256"]
        offset, size_bytes = _count(request, "offset"), _count(request, "size_bytes")
        piece = await read_body(request, PIECE_BYTES)
        uploads = self._shelf.uploads
        standing = await run_in_threadpool(uploads.append, sha256, offset, size_bytes, piece)
        return JSONResponse(dataclasses.asdict(standing))

    async def marked(self, request: Request) -> Response:
        name = request.path_params["name"]
        sha256 = await run_in_threadpool(self._shelf.store.marked, name)
        if sha256 is None:
            raise NotFound(f"no mark {name} in the collector's store")
        return JSONResponse({"sha256": sha256})

    async def mark(self, request: Request) -> Response:
        name, sha256 = request.path_params["name"], _marked_object(await read_body(request, 1024))
        await run_in_threadpool(self._shelf.store.mark, name, sha256)
        return JSONResponse({"sha256": sha256})

    async def unmark(self, request: Request) -> Response:
        await run_in_threadpool(self._shelf.store.unmark, request.path_params["name"])
        return JSONResponse({})


def _count(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise BadRequest(f"{name}={text!r:.40}: expected a number of bytes")
    return int(text)


def _offset(header: str | None) -> int | None:
    """Where `Range: bytes=N-` begins. Other ranges are answered in whole, as RFC 9110 14.2 allows."""
    found = re.fullmatch(r"bytes=([0-9]{1,18})-", header or "")
    return int(found.group(1)) if found else None


def _marked_object(body: bytearray) -> str:
    try:
        given = json.loads(body)
        if not isinstance(given, dict) or set(given) != {"sha256"}:
            raise ValueError("one key is expected")
        if not isinstance(given["sha256"], str) or not is_name(given["sha256"]):
            raise ValueError("that is no SHA-256 in hex")
    except (ValueError, RecursionError) as error:
        text = f'expected a body such as {{"sha256": "e3b0..."}}: {error}'
        raise BadRequest(text) from error
    return str(given["sha256"])


def _collection(body: bytearray) -> tuple[float, bool]:
    try:
        given = json.loads(body or b"{}")
        if not isinstance(given, dict) or set(given) - {"older_than_s", "dry_run"}:
            raise ValueError("unknown keys")
        older_than_s, dry_run = (
            given.get("older_than_s", DEFAULT_AGE_S),
            given.get("dry_run", False),
        )
        number = isinstance(older_than_s, int | float) and not isinstance(older_than_s, bool)
        if not isinstance(dry_run, bool) or not number or not 0 <= older_than_s < float("inf"):
            raise ValueError("a wrong value")
        older_than_s = float(older_than_s)
    except (ValueError, OverflowError, RecursionError) as error:
        text = f'expected a body such as {{"older_than_s": 86400, "dry_run": true}}: {error}'
        raise BadRequest(text) from error
    return older_than_s, dry_run


# -- OpenAPI -----------------------------------------------------------------------------------------

_OBJECT = parameter("path", "sha256", "the object's SHA-256 in hex", SHA256)
_NAME = parameter(
    "path", "name", "the id of a job", {"type": "string", "pattern": f"^{MARK_PATTERN}$"}
)
_RANGE = parameter(
    "header", "Range", "bytes=N-; another one is answered in whole", {"type": "string"}
)
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_MARKED = schema_of({"sha256": str}) | {"properties": {"sha256": SHA256}}
_COLLECTION = {
    "type": "object",
    "properties": {
        "older_than_s": {"type": "number", "minimum": 0},
        "dry_run": {"type": "boolean"},
    },
    "additionalProperties": False,
}
_OFFSET = parameter(
    "query",
    "offset",
    "where the piece begins; ignored if it stands elsewhere",
    whole(0, 10**18 - 1),
    required=True,
)
_SIZE = parameter("query", "size_bytes", "of the whole object", whole(0, 10**18 - 1), required=True)
_USAGE = {
    "store": str,
    "objects": int,
    "size_bytes": int,
    "quota_bytes": int | None,
    "object_bytes": int | None,
}
_STANDING = as_json(Standing)
#: The paths of the OpenAPI document.
STORE_PATHS: dict[str, Plain] = {
    "/v1/store": {
        "get": operation("What the store holds, and may hold", as_json(_USAGE), errors=["502"])
    },
    "/v1/store/gc": {
        "post": operation(
            "Remove what no study refers to",
            as_json(Collected),
            body={"content": {"application/json": {"schema": _COLLECTION}}, "required": False},
            errors=["502"],
        )
    },
    "/v1/store/{sha256}": {
        "get": operation(
            "An object, from a byte on where asked",
            _BINARY,
            [_OBJECT, _RANGE],
            errors=["416", "502"],
            also={"206": {"description": "from the byte asked for", "content": _BINARY}},
        )
    },
    "/v1/store/{sha256}/upload": {
        "get": operation("How far an upload is", _STANDING, [_OBJECT], errors=["502"]),
        "patch": operation(
            f"Add a piece of up to {PIECE_BYTES // 1024**2} MiB to an upload; says how far it is",
            _STANDING,
            [_OBJECT, _OFFSET, _SIZE],
            body={"content": _BINARY, "required": False},
            errors=["422", "502", "507"],
        ),
    },
    "/v1/marks/{name}": {
        "get": operation(
            "The last checkpoint of a job",
            {"application/json": {"schema": _MARKED}},
            [_NAME],
            errors=["502"],
        ),
        "put": operation(
            "Let a job go on from another checkpoint, whose object is there already",
            {"application/json": {"schema": _MARKED}},
            [_NAME],
            body={"content": {"application/json": {"schema": _MARKED}}, "required": True},
            errors=["502", "507"],
        ),
        "delete": operation(
            "Forget the checkpoint of a job, if there is one",
            as_json({}),
            [_NAME],
            errors=["502"],
        ),
    },
}
