"""The HTTP API on starlette and uvicorn: authentication, errors, and a server in a thread."""

from __future__ import annotations

import hmac
import json
import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route as HttpRoute

from queue_runner.collector.metrics import Metrics
from queue_runner.collector.routes import ROUTES, Api, BadRequest, Request, Route, Stream, openapi
from queue_runner.collector.store_routes import STORE_PATHS, Shelf, store_routes
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

log = logging.getLogger("queue_runner.collector")

_MAX_BODY_BYTES = 1024 * 1024
_STOP_S = 5.0

Endpoint = Callable[[HttpRequest], Awaitable[Response]]


def make_app(api: Api, metrics: Metrics, token: str, shelf: Shelf | None = None) -> Starlette:
    """Every route but /healthz needs `Authorization: Bearer TOKEN`. `shelf`: the store to serve."""
    guard = _Guard(token)

    async def healthz(request: HttpRequest) -> Response:
        return _json({"status": "ok", "version": version("queue-runner")})

    async def prometheus(request: HttpRequest) -> Response:
        text = await run_in_threadpool(metrics.text)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def document(request: HttpRequest) -> Response:
        described = openapi(version("queue-runner"))
        return _json({**described, "paths": {**described["paths"], **STORE_PATHS}})

    routes = [
        HttpRoute("/healthz", healthz),
        HttpRoute("/metrics", guard(prometheus)),
        HttpRoute("/openapi.json", guard(document)),
        *(HttpRoute(r.path, guard(_endpoint(api, r)), methods=[r.method]) for r in ROUTES),
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
    (TryLater, 503, "try-later"),
)


def _refusal(error: QueueRunnerError) -> Response:
    for kind, status, code in _REFUSALS:
        if isinstance(error, kind):
            return _error(status, code, str(error))
    log.error("a request failed", exc_info=error)
    return _error(500, "failed", str(error))


def _endpoint(api: Api, route: Route) -> Endpoint:
    async def answer(http: HttpRequest) -> Response:
        request = Request(dict(http.path_params), _query(http, route), await _body(http))
        value = await run_in_threadpool(route.answer, api, request)
        if isinstance(value, Stream):
            return StreamingResponse(value.lines, media_type=value.media_type)
        return _json(value)

    return answer


def _query(http: HttpRequest, route: Route) -> dict[str, str]:
    for name in http.query_params:
        if name not in route.query:
            known = ", ".join(route.query) or "none"
            raise BadRequest(f"unknown parameter {name!r:.60}; known here: {known}")
        if len(http.query_params.getlist(name)) > 1:
            raise BadRequest(f"{name}: given twice")
    return dict(http.query_params)


async def _body(http: HttpRequest) -> Any:
    content = b""
    async for chunk in http.stream():
        content += chunk
        if len(content) > _MAX_BODY_BYTES:
            raise BadRequest(f"a body of more than {_MAX_BODY_BYTES // 1024} KiB")
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
    code = "not-found" if error.status_code == 404 else "bad-request"
    answer = _error(
        error.status_code, code, f"{request.method} {request.url.path}: {error.detail}{hint}"
    )
    answer.headers.update(error.headers or {})  # `Allow`, with 405
    return answer


class HttpServer:
    """uvicorn in a thread. `url` is where it listens, with the real port where 0 was asked for."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        """Raises `FixThis` when the address cannot be listened on."""
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise FixThis(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another --listen"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=int(_STOP_S)
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="collector-http", daemon=True)

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()
