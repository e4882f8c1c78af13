"""What the HTTP API answers, one table of routes; `described.py` makes the OpenAPI document of it.

Every answer is JSON but /metrics, and what is asked for in another format. An error is
`{"error": {"code": ..., "message": ...}}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from queue_runner.bounds import check
from queue_runner.collector.database import Database
from queue_runner.collector.news import Added
from queue_runner.collector.openapi import whole
from queue_runner.collector.schemas import Schema
from queue_runner.errors import FixThis, WireError
from queue_runner.model import (
    AddedPoint,
    Allotment,
    CancelRequest,
    Failure,
    MissingJob,
    Result,
    RetryRequest,
    State,
    StudyRecord,
    StudyStatus,
    WorkerStatus,
)
from queue_runner.tables import Row, columns, csv_lines, flatten, json_row
from queue_runner.wire import decode, to_plain

T = TypeVar("T", CancelRequest, RetryRequest)

MAX_LIMIT = 10_000
MAX_WAIT_S = 20
#: Seconds up to that, as the description of the API may say it, too.
_SECONDS = r"20|1?[0-9](\.[0-9]{1,6})?"
_MOST = 10**18 - 1
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
class Packed:
    """An answer in msgpack, for clients of ours: results are in it as the messages that they came as."""

    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Api:
    """What the routes work on. `tell` applies a request and tells the workers."""

    database: Database
    tell: Callable[[CancelRequest | RetryRequest], None]


@dataclass(frozen=True, slots=True)
class Route:
    """query: the parameters that are known, with what they mean; takes: of a body the same; gives: the type
    of its answer in JSON.

    later: whether to ask again for a while; added: the answer that follows from news alone, or None; nothing:
    whether a glance shows that it would have to be asked again.
    """

    method: str
    path: str
    summary: str
    answer: Callable[[Api, Request], Any]
    gives: Any
    query: Mapping[str, tuple[str, Schema]] = field(default_factory=dict)
    later: Callable[[Request, Any], bool] | None = None
    added: Callable[[Request, Added], Any] | None = None
    nothing: Callable[[Api, Request], bool] | None = None
    takes: tuple[str, Schema] | None = None


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
    if form not in ("json", "msgpack"):
        raise BadRequest(f"format={form!r}: expected json, msgpack, csv or ndjson")
    bodies = api.database.result_bodies(
        study, after=_number(request, "after", -1, -1), limit=_limit(request), states=states
    )
    return Packed({"results": bodies}) if form == "msgpack" else _plain(bodies)


def _plain(bodies: Sequence[bytes]) -> list[Any]:
    return [to_plain(decode(body, Result)) for body in bodies]


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
    form = request.query.get("format", "json")
    if form not in ("json", "msgpack", "parts"):
        raise BadRequest(f"format={form!r}: expected json, msgpack or parts")
    arrived = api.database.arrived(
        request.path["study"], cursor=_number(request, "cursor", 0, 0), limit=_limit(request)
    )
    rest = {"cursor": arrived.cursor, "done": arrived.done}
    if form != "json":
        return Packed({"results": arrived.bodies, **rest})
    return {"results": _plain(arrived.bodies), **rest}


def _just_arrived(request: Request, added: Added) -> Packed | None:
    """What `_arrivals` would find in the database, for who has had all that came before."""
    cursor, count = _number(request, "cursor", 0, 0), len(added.bodies)
    if (
        request.query.get("format", "json") == "json"
        or added.after != cursor
        or count >= _limit(request)
    ):
        return None
    return Packed({"results": added.bodies, "cursor": cursor + count, "done": added.done})


def _none_arrived(api: Api, request: Request) -> bool:
    """Raises `NotFound`."""
    seen = api.database.glance(request.path["study"])
    if seen is None or (seen.done and not more(request)):
        return False
    return seen.arrivals <= _number(request, "cursor", 0, 0)


def _nothing_yet(request: Request, answer: Any) -> bool:
    told = answer.value if isinstance(answer, Packed) else answer
    return not told["results"] and (more(request) or not told["done"])


def more(request: Request) -> bool:
    """Whether points are being added to an open study."""
    return bool(_number(request, "more", 0, 0))


def stays_open(request: Request) -> bool:
    """Whether what comes later is to be sent over the same answer."""
    return request.query.get("format") == "parts"


def _missing(api: Api, request: Request) -> Any:
    after = _number(request, "after", -1, -1)
    found = api.database.missing(request.path["study"], after=after, limit=_limit(request))
    return [to_plain(each) for each in found]


def _points(api: Api, request: Request) -> Any:
    after = _number(request, "after", -1, -1)
    found = api.database.points(request.path["study"], after=after, limit=_limit(request))
    return [to_plain(each) for each in found]


def _allot(api: Api, request: Request) -> Any:
    body = request.body
    count = body.get("count") if isinstance(body, Mapping) and set(body) == {"count"} else None
    if type(count) is not int or not 1 <= count <= MAX_LIMIT:
        raise BadRequest(f'expected a body such as {{"count": 100}}, of at most {MAX_LIMIT}')
    return to_plain(api.database.allot(request.path["study"], count))


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
    api.tell(_checked(CancelRequest(study, _jobs(request))))
    return {"study": study, "cancelled": api.database.status(study).cancelled - before}


def _retry(api: Api, request: Request) -> Any:
    study = api.database.study(request.path["study"]).id
    api.tell(_checked(RetryRequest(study, _jobs(request))))
    return {"study": study}


_PAGING = {"limit": (f"at most so many, up to {MAX_LIMIT}", whole(1, MAX_LIMIT))}
_AFTER = {"after": ("only those with a higher index", whole(-1, _MOST))}
_CURSOR = {"cursor": ("where the last answer ended", whole(0, _MOST))}
_STATE = "|".join(State)
_TABLE: dict[str, tuple[str, Schema]] = {
    "state": (
        "succeeded, failed, cancelled; several with commas",
        {"type": "string", "pattern": f"^(({_STATE})(,({_STATE}))*)?$"},
    ),
    "format": (
        "json or msgpack (a page of results), or csv or ndjson (a table of all of them)",
        {"type": "string", "enum": ["json", "msgpack", "csv", "ndjson"]},
    ),
}
_WAITING: dict[str, tuple[str, Schema]] = {
    "wait": (
        f"seconds to wait where there is none yet, up to {MAX_WAIT_S}",
        {"type": "string", "pattern": f"^({_SECONDS})$"},
    ),
    "more": (
        "1 to wait though every job that is known has one, while points are added to an open study",
        whole(0, 1),
    ),
    "format": (
        "json or msgpack; or parts: the answer stays open, and what comes later is sent when it comes"
        " (docs/collector.md)",
        {"type": "string", "enum": ["json", "msgpack", "parts"]},
    ),
}
_JOBS: tuple[str, Schema] = (
    "without jobs: all of the study",
    {
        "type": ["object", "null"],
        "properties": {
            "jobs": {
                "type": "array",
                "items": {"type": "string", "pattern": r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$"},
                "maxItems": MAX_LIMIT,
            }
        },
        "additionalProperties": False,
    },
)
_COUNT: tuple[str, Schema] = (
    "how many",
    {
        "type": "object",
        "properties": {"count": whole(1, MAX_LIMIT)},
        "required": ["count"],
        "additionalProperties": False,
    },
)
_S = "/v1/studies/{study}"
_J = "/v1/jobs/{job}"
ROUTES = (
    Route("GET", "/v1/studies", "All studies, the latest first", _studies, list[StudyStatus]),
    Route("GET", _S, "How far a study is", _study, StudyStatus),
    Route("GET", f"{_S}/spec", "The study as it was submitted", _spec, StudyRecord),
    Route(
        "GET",
        f"{_S}/results",
        "Final results in the order of the points",
        _results,
        list[Result],
        {**_PAGING, **_AFTER, **_TABLE},
    ),
    Route(
        "GET",
        f"{_S}/arrivals",
        "Final results in the order in which they came",
        _arrivals,
        {"results": list[Result], "cursor": int, "done": bool},
        {**_PAGING, **_CURSOR, **_WAITING},
        _nothing_yet,
        _just_arrived,
        _none_arrived,
    ),
    Route(
        "GET",
        f"{_S}/missing",
        "Submitted jobs without a final result: waiting, running or lost by a broker",
        _missing,
        list[MissingJob],
        {**_PAGING, **_AFTER},
    ),
    Route(
        "GET",
        f"{_S}/points",
        "What was added to an open study, in the order of the numbers",
        _points,
        list[AddedPoint],
        {**_PAGING, **_AFTER},
    ),
    Route(
        "POST",
        f"{_S}/allotments",
        "Numbers for further jobs of an open study",
        _allot,
        Allotment,
        takes=_COUNT,
    ),
    Route(
        "POST",
        f"{_S}/cancel",
        "Cancel jobs, or all of the study",
        _cancel,
        {"study": str, "cancelled": int},
        takes=_JOBS,
    ),
    Route(
        "POST",
        f"{_S}/retry",
        "Forget failures of jobs that are sent again",
        _retry,
        {"study": str},
        takes=_JOBS,
    ),
    Route("GET", _J, "The final result of a job", _job, Result),
    Route("GET", f"{_J}/attempts", "Every attempt at a job", _attempts, list[Result]),
    Route(
        "GET",
        f"{_J}/log",
        "Failure and last log lines of a job",
        _log,
        {"job": str, "failure": Failure | None, "log_tail": str},
    ),
    Route("GET", "/v1/workers", "Workers heard of in the last hour", _workers, list[WorkerStatus]),
)


def _rows(database: Database, study: str, states: list[State]) -> Iterator[Row]:
    """All results of a study as flat rows, page by page."""
    parameters, after = database.study(study).parameters, -1
    while page := database.results(study, after=after, limit=_PAGE, states=states):
        yield from (flatten(result, parameters) for result in page)
        after = page[-1].index


# -- parameters --------------------------------------------------------------------------------------


def known_only(given: Sequence[str], known: Collection[str]) -> None:
    """Raises `BadRequest` for a parameter that a route has not, or that is there twice."""
    for name in given:
        if name not in known:
            raise BadRequest(
                f"unknown parameter {name!r:.60}; known here: {', '.join(known) or 'none'}"
            )
        if given.count(name) > 1:
            raise BadRequest(f"{name}: given twice")


def _number(request: Request, name: str, default: int, least: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    digits = text.removeprefix("-")
    # the digits first: Python reads no more than 4300 of them
    good = digits.isascii() and digits.isdecimal() and len(text) <= 18
    if not good or not least <= int(text) <= _MOST:
        raise BadRequest(f"{name}={text!r:.40}: expected a whole number from {least}")
    return int(text)


def wait_s(request: Request) -> float:
    """For how long an answer may wait for something to tell. Raises `BadRequest`."""
    text = request.query.get("wait", "0")
    if not re.fullmatch(_SECONDS, text):
        raise BadRequest(f"wait={text!r:.40}: expected seconds, such as 0.5, at most {MAX_WAIT_S}")
    return float(text)


def _limit(request: Request) -> int:
    limit = _number(request, "limit", _PAGE, 1)
    if limit > MAX_LIMIT:
        raise BadRequest(f"limit={limit}: expected at most {MAX_LIMIT}")
    return limit


def _states(request: Request) -> list[State]:
    text = request.query.get("state", "")
    try:
        return [State(word) for word in text.split(",")] if text else []
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


def _checked(asked: T) -> T:
    try:
        check(asked)
    except WireError as error:
        raise BadRequest(str(error)) from error
    return asked
