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

from queue_runner.collector.routes import BadRequest
from queue_runner.errors import NotFound
from queue_runner.store import Store
from queue_runner.store.garbage import DEFAULT_AGE_S, Collected, collect_garbage
from queue_runner.store.uploads import PIECE_BYTES, Uploads

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Shelf:
    """The store that a collector serves. `referenced` lists what its studies need."""

    store: Store
    uploads: Uploads
    referenced: Callable[[], Iterable[str]]

    def collect(self, older_than_s: float, dry_run: bool) -> Collected:
        collected = collect_garbage(
            self.store, self.referenced(), older_than_s=older_than_s, dry_run=dry_run
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
    ]
    return [Route(path, guard(endpoint), methods=[method]) for method, path, endpoint in table]


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
        older_than_s, dry_run = _collection(await _body(request, 1024))
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
        piece = await _body(request, PIECE_BYTES)
        uploads = self._shelf.uploads
        standing = await run_in_threadpool(uploads.append, sha256, offset, size_bytes, piece)
        return JSONResponse(dataclasses.asdict(standing))


async def _body(request: Request, limit_bytes: int) -> bytearray:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise BadRequest(f"a body of more than {limit_bytes // 1024} KiB")
    return body


def _count(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise BadRequest(f"{name}={text!r:.40}: expected a number of bytes")
    return int(text)


def _offset(header: str | None) -> int | None:
    """Where `Range: bytes=N-` begins. Other ranges are answered in whole, as RFC 9110 14.2 allows."""
    found = re.fullmatch(r"bytes=([0-9]{1,18})-", header or "")
    return int(found.group(1)) if found else None


def _collection(body: bytearray) -> tuple[float, bool]:
    try:
        given = json.loads(body or b"{}")
        if not isinstance(given, dict) or set(given) - {"older_than_s", "dry_run"}:
            raise ValueError("unknown keys")
        older_than_s, dry_run = (
            given.get("older_than_s", DEFAULT_AGE_S),
            given.get("dry_run", False),
        )
        if not isinstance(dry_run, bool) or not 0 <= float(older_than_s) < float("inf"):
            raise ValueError("a wrong value")
    except (ValueError, TypeError, RecursionError) as error:
        text = f'expected a body such as {{"older_than_s": 86400, "dry_run": true}}: {error}'
        raise BadRequest(text) from error
    return float(older_than_s), dry_run


# -- OpenAPI -----------------------------------------------------------------------------------------


def _parameter(name: str, place: str, meaning: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": place != "header",
        "description": meaning,
        "schema": {"type": "integer" if place == "query" else "string"},
    }


_SHA256 = _parameter("sha256", "path", "the object's SHA-256 in hex")
_STANDING = "how far the upload is: received_bytes, complete"
_ERRORS = {
    "400": {"description": "a parameter or body that is not accepted"},
    "401": {"description": "no token, or a wrong one"},
    "404": {"description": "no such object"},
    "503": {"description": "the store does not answer"},
}
_UPLOAD_ERRORS = {
    "413": {"description": "larger than the store takes"},
    "422": {"description": "complete, but not what its name says; send it again"},
    "507": {"description": "the quota or the disk is used up"},
}


def _operation(summary: str, answer: str, *parameters: Any, **more: Any) -> dict[str, Any]:
    responses = {"200": {"description": answer}, **_ERRORS, **more.pop("errors", {})}
    return {"summary": summary, "parameters": list(parameters), "responses": responses, **more}


_BINARY = {"content": {"application/octet-stream": {}}, "required": False}
#: The paths of the OpenAPI document.
STORE_PATHS: dict[str, Any] = {
    "/v1/store": {"get": _operation("What the store holds, and may hold", "counts and bytes")},
    "/v1/store/gc": {
        "post": _operation(
            "Remove what no study refers to",
            "what was removed",
            requestBody={"content": {"application/json": {}}, "required": False},
        )
    },
    "/v1/store/{sha256}": {
        "get": _operation(
            "An object, from a byte on where asked",
            "the content (206: from the byte asked for)",
            _SHA256,
            _parameter("Range", "header", "bytes=N-"),
        )
    },
    "/v1/store/{sha256}/upload": {
        "get": _operation("How far an upload is", _STANDING, _SHA256),
        "patch": _operation(
            f"Add a piece of up to {PIECE_BYTES // 1024**2} MiB to an upload",
            _STANDING,
            _SHA256,
            _parameter("offset", "query", "where the piece begins; ignored if it stands elsewhere"),
            _parameter("size_bytes", "query", "of the whole object"),
            errors=_UPLOAD_ERRORS,
            requestBody=_BINARY,
        ),
    },
}
