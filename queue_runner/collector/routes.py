"""What the HTTP API answers, and the OpenAPI document, from one table of routes.

Every answer is JSON but /metrics. An error is `{"error": {"code": ..., "message": ...}}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from queue_runner.collector.database import Database
from queue_runner.errors import FixThis
from queue_runner.model import CancelRequest, RetryRequest, State
from queue_runner.tables import Row, columns, csv_lines, flatten, json_row
from queue_runner.wire import to_plain

MAX_LIMIT = 10_000
_PAGE = 1000


class BadRequest(FixThis):
    """A parameter or a body that is not accepted: 400."""


@dataclass(frozen=True, slots=True)
class Request:
    """path: the parts in braces of the route's path; query: parameters; body: decoded JSON or None."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that is made while it is sent."""

    media_type: str
    lines: Iterator[str]


@dataclass(frozen=True, slots=True)
class Api:
    """What the routes work on. `tell` applies a request and tells the workers."""

    database: Database
    tell: Callable[[CancelRequest | RetryRequest], None]


@dataclass(frozen=True, slots=True)
class Route:
    """query: the parameters that are known, with what they mean."""

    method: str
    path: str
    summary: str
    answer: Callable[[Api, Request], Any]
    query: Mapping[str, str]


def _studies(api: Api, request: Request) -> Any:
    return [to_plain(status) for status in api.database.studies()]


def _study(api: Api, request: Request) -> Any:
    return to_plain(api.database.status(request.path["study"]))


def _spec(api: Api, request: Request) -> Any:
    return to_plain(api.database.study(request.path["study"]))


def _results(api: Api, request: Request) -> Any:
    study, states = request.path["study"], _states(request)
    form = request.query.get("format", "json")
    if form in ("csv", "ndjson"):
        return _table(api, study, states, form)
    if form != "json":
        raise BadRequest(f"format={form!r}: expected json, csv or ndjson")
    results = api.database.results(
        study, after=_number(request, "after", -1, -1), limit=_limit(request), states=states
    )
    return [to_plain(result) for result in results]


def _table(api: Api, study: str, states: list[State], form: str) -> Stream:
    database = api.database
    database.study(study)
    if form == "ndjson":
        lines = (json_row(row) + "\n" for row in _rows(database, study, states))
        return Stream("application/x-ndjson", lines)
    # once for the names, once for the rows: a million of them need not fit into memory
    names = columns(_rows(database, study, states))
    return Stream("text/csv", csv_lines(_rows(database, study, states), names))


def _arrivals(api: Api, request: Request) -> Any:
    results, cursor = api.database.arrivals(
        request.path["study"], cursor=_number(request, "cursor", 0, 0), limit=_limit(request)
    )
    return {"results": [to_plain(result) for result in results], "cursor": cursor}


def _job(api: Api, request: Request) -> Any:
    return to_plain(api.database.result(request.path["job"]))


def _attempts(api: Api, request: Request) -> Any:
    return [to_plain(result) for result in api.database.attempts(request.path["job"])]


def _log(api: Api, request: Request) -> Any:
    result = api.database.result(request.path["job"])
    failure = to_plain(result.failure) if result.failure is not None else None
    return {"job": result.job_id, "failure": failure, "log_tail": result.log_tail}


def _workers(api: Api, request: Request) -> Any:
    return [to_plain(worker) for worker in api.database.workers()]


def _cancel(api: Api, request: Request) -> Any:
    study = api.database.study(request.path["study"]).id
    before = api.database.status(study).cancelled
    api.tell(CancelRequest(study, _jobs(request)))
    return {"study": study, "cancelled": api.database.status(study).cancelled - before}


def _retry(api: Api, request: Request) -> Any:
    study = api.database.study(request.path["study"]).id
    api.tell(RetryRequest(study, _jobs(request)))
    return {"study": study}


_PAGING = {"limit": f"at most so many, up to {MAX_LIMIT}"}
_S = "/v1/studies/{study}"
ROUTES = (
    Route("GET", "/v1/studies", "All studies, the latest first", _studies, {}),
    Route("GET", _S, "How far a study is", _study, {}),
    Route("GET", f"{_S}/spec", "The study as it was submitted", _spec, {}),
    Route(
        "GET",
        f"{_S}/results",
        "Final results in the order of the points",
        _results,
        {
            **_PAGING,
            "after": "only those with a higher index",
            "state": "succeeded, failed, cancelled; several with commas",
            "format": "json (a page of results), or csv or ndjson (a table of all of them)",
        },
    ),
    Route(
        "GET",
        f"{_S}/arrivals",
        "Final results in the order in which they came",
        _arrivals,
        {**_PAGING, "cursor": "where the last answer ended"},
    ),
    Route("POST", f"{_S}/cancel", "Cancel jobs, or all of the study", _cancel, {}),
    Route("POST", f"{_S}/retry", "Forget failures of jobs that are sent again", _retry, {}),
    Route("GET", "/v1/jobs/{job}", "The final result of a job", _job, {}),
    Route("GET", "/v1/jobs/{job}/attempts", "Every attempt at a job", _attempts, {}),
    Route("GET", "/v1/jobs/{job}/log", "Failure and last log lines of a job", _log, {}),
    Route("GET", "/v1/workers", "Workers heard of in the last hour", _workers, {}),
)


def _rows(database: Database, study: str, states: list[State]) -> Iterator[Row]:
    """All results of a study as flat rows, page by page."""
    parameters, after = database.study(study).parameters, -1
    while page := database.results(study, after=after, limit=_PAGE, states=states):
        yield from (flatten(result, parameters) for result in page)
        after = page[-1].index


# -- parameters --------------------------------------------------------------------------------------


def _number(request: Request, name: str, default: int, least: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()) or len(text) > 18 or int(text) < least:
        raise BadRequest(f"{name}={text!r:.40}: expected a whole number from {least}")
    return int(text)


def _limit(request: Request) -> int:
    limit = _number(request, "limit", _PAGE, 1)
    if limit > MAX_LIMIT:
        raise BadRequest(f"limit={limit}: expected at most {MAX_LIMIT}")
    return limit


def _states(request: Request) -> list[State]:
    text = request.query.get("state", "")
    try:
        return [State(word) for word in text.split(",") if word]
    except ValueError as error:
        raise BadRequest(f"state={text!r:.40}: expected succeeded, failed or cancelled") from error


def _jobs(request: Request) -> tuple[str, ...]:
    body = request.body if request.body is not None else {}
    jobs: Any = body.get("jobs", []) if isinstance(body, Mapping) else None
    good = isinstance(jobs, list) and all(isinstance(job, str) for job in jobs)
    if not good or set(body) - {"jobs"}:
        raise BadRequest('expected a body such as {"jobs": ["cavity-1f0c9a7e21.0000003"]}, or none')
    if len(jobs) > MAX_LIMIT:
        raise BadRequest(f"expected at most {MAX_LIMIT} jobs in one request")
    return tuple(jobs)


# -- OpenAPI -----------------------------------------------------------------------------------------


def openapi(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of all routes."""
    paths: dict[str, Any] = {
        "/healthz": {"get": _operation("Whether the collector serves; needs no token", {}, ())},
        "/metrics": {"get": _operation("Counters in the text format of Prometheus", {}, ())},
        "/openapi.json": {"get": _operation("This document", {}, ())},
    }
    for route in ROUTES:
        names = tuple(name for name in ("study", "job") if f"{{{name}}}" in route.path)
        operation = _operation(route.summary, route.query, names)
        if route.method == "POST":
            operation["requestBody"] = {
                "content": {"application/json": {"schema": _JOBS_SCHEMA}},
                "required": False,
            }
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    paths["/healthz"]["get"]["security"] = []
    return {
        "openapi": "3.1.0",
        "info": {"title": "queue-runner collector", "version": version},
        "security": [{"token": []}],
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": paths,
    }


_JOBS_SCHEMA = {
    "type": "object",
    "properties": {"jobs": {"type": "array", "items": {"type": "string"}}},
    "additionalProperties": False,
}


def _operation(summary: str, query: Mapping[str, str], names: tuple[str, ...]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ] + [
        {"name": name, "in": "query", "description": meaning, "schema": {"type": "string"}}
        for name, meaning in query.items()
    ]
    errors = {code: {"description": text} for code, text in _ERRORS.items()}
    return {
        "summary": summary,
        **({"parameters": parameters} if parameters else {}),
        "responses": {"200": {"description": "as the summary says"}, **errors},
    }


_ERRORS = {
    "400": "a parameter or body that is not accepted",
    "401": "no token, or a wrong one",
    "404": "no such study or job",
    "503": "the database or the broker does not answer",
}
