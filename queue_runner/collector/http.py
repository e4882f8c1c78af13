"""The HTTP API on starlette: authentication, parameters, bodies and errors."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import msgpack
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Match
from starlette.routing import Route as HttpRoute

from queue_runner.collector import openapi
from queue_runner.collector.bodies import TooSlow, read_body
from queue_runner.collector.described import api_paths
from queue_runner.collector.following import Follow
from queue_runner.collector.metrics import Metrics
from queue_runner.collector.routes import (
    ROUTES,
    Api,
    BadRequest,
    Packed,
    Request,
    Route,
    Stream,
    known_only,
    stays_open,
)
from queue_runner.collector.store_routes import STORE_PATHS, Shelf, store_routes
from queue_runner.collector.waiting import waiting
from queue_runner.errors import (
    FixThis,
    NotFound,
    QueueRunnerError,
    StoreDamaged,
    StoreFull,
    StoreRefused,
    TooBig,
    TryLater,
)
from queue_runner.records import FOLLOWED

log = logging.getLogger("queue_runner.collector")

_MAX_BODY_BYTES = 1024 * 1024
#: nginx, for one, keeps back what a proxied server sends, until it is some kilobytes or whole.
_UNBUFFERED = {"x-accel-buffering": "no", "cache-control": "no-store"}

Endpoint = Callable[[HttpRequest], Awaitable[Response]]


def make_app(api: Api, metrics: Metrics, token: str, shelf: Shelf | None = None) -> Starlette:
    """Every route but /healthz needs `Authorization: Bearer TOKEN`. `shelf`: the store to serve."""
    guard, follow = _Guard(token), Follow()
    store_paths = STORE_PATHS if shelf is not None else {}
    described = openapi.document(version("queue-runner"), api_paths(), store_paths)

    async def healthz(request: HttpRequest) -> Response:
        return _json({"status": "ok", "version": version("queue-runner")})

    async def prometheus(request: HttpRequest) -> Response:
        text = await run_in_threadpool(metrics.text)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def document(request: HttpRequest) -> Response:
        return _json(described)

    routes = [
        HttpRoute("/healthz", healthz),
        HttpRoute("/metrics", guard(prometheus)),
        HttpRoute("/openapi.json", guard(document)),
        *(HttpRoute(r.path, guard(_endpoint(api, r, follow)), methods=[r.method]) for r in ROUTES),
        *(store_routes(shelf, guard) if shelf is not None else ()),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_error})


class _Guard:
    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    def __call__(self, endpoint: Endpoint) -> Endpoint:
        async def guarded(request: HttpRequest) -> Response:
            given = request.headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, self._expected):
                text = "no token, or a wrong one; give the collector's with `Authorization: Bearer`"
                return _error(401, "unauthorized", text)
            try:
                return await endpoint(request)
            except QueueRunnerError as error:
                return _refusal(error)

        return guarded


#: The first that fits. That the store refuses its collector is the operator's business: 502.
_REFUSALS: tuple[tuple[type[QueueRunnerError], int, str], ...] = (
    (NotFound, 404, "not-found"),
    (TooBig, 413, "too-big"),
    (StoreDamaged, 422, "other-content"),
    (StoreRefused, 502, "store-refused"),
    (StoreFull, 507, "store-full"),
    (FixThis, 400, "bad-request"),
    (TooSlow, 408, "too-slow"),
    (TryLater, 503, "try-later"),
)


def _refusal(error: QueueRunnerError) -> Response:
    for kind, status, code in _REFUSALS:
        if isinstance(error, kind):
            return _error(status, code, str(error))
    log.error("a request failed", exc_info=error)
    return _error(500, "failed", str(error))


def _endpoint(api: Api, route: Route, follow: Follow) -> Endpoint:
    async def answer(http: HttpRequest) -> Response:
        request = Request(_names(http), _query(http, route), await _body(http))
        if route.later is None:
            if "study" in request.path:
                # one that is not there is told so without a thread
                api.database.glance(request.path["study"])
            value = await run_in_threadpool(route.answer, api, request)
        elif stays_open(request) and http.method == "GET":
            return StreamingResponse(
                await follow(api, route, request), headers=_UNBUFFERED, media_type=FOLLOWED
            )
        else:
            with waiting(api, route, request.path["study"]) as waits:
                value = await waits.answer(request)
        if isinstance(value, Packed):
            packed = msgpack.packb(value.value, use_bin_type=True)
            return Response(packed, media_type="application/vnd.msgpack")
        if isinstance(value, Stream):
            return StreamingResponse(value.lines, media_type=value.media_type)
        return _json(value)

    return answer


def _names(http: HttpRequest) -> dict[str, str]:
    """Those in the path. Raises `NotFound` for what no study or job can be called."""
    for value in http.path_params.values():
        if not value.isprintable():
            raise NotFound(f"nothing is called {value!r:.80}")
    return dict(http.path_params)


def _query(http: HttpRequest, route: Route) -> dict[str, str]:
    known_only([name for name, _ in http.query_params.multi_items()], route.query)
    return dict(http.query_params)


async def _body(http: HttpRequest) -> Any:
    content = await read_body(http, _MAX_BODY_BYTES)
    if not content:
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error


def _json(value: Any, status: int = 200) -> Response:
    # metrics may be NaN or infinite, which strict JSON has no words for; Python reads these
    return Response(json.dumps(value), status, media_type="application/json")


def _error(status: int, code: str, message: str) -> Response:
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    content = json.dumps({"error": {"code": code, "message": message}})
    return Response(content, status, headers, media_type="application/json")


async def _http_error(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hint = "; /openapi.json lists what there is" if error.status_code in (404, 405) else ""
    code = {404: "not-found", 405: "no-such-method"}.get(error.status_code, "bad-request")
    answer = _error(
        error.status_code, code, f"{request.method} {request.url.path}: {error.detail}{hint}"
    )
    answer.headers.update(error.headers or {})
    if error.status_code == 405:
        answer.headers["allow"] = ", ".join(sorted(_methods(request)))
    return answer


def _methods(request: HttpRequest) -> set[str]:
    """Of all routes with this path; starlette tells those of the first."""
    return {
        method
        for route in request.app.routes
        if isinstance(route, HttpRoute) and route.matches(request.scope)[0] != Match.NONE
        for method in route.methods or ()
    }
