"""The collector's HTTP API as `Records`."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from queue_runner.client.following import Followed, Question
from queue_runner.errors import CollectorRefused, CollectorUnavailable, NotFound, WireError
from queue_runner.http import Response, Session, Unanswered, succeeded
from queue_runner.model import (
    AddedPoint,
    Allotment,
    MissingJob,
    Result,
    State,
    StudyRecord,
    StudyStatus,
    WorkerStatus,
)
from queue_runner.records import Arrivals
from queue_runner.tls import distrust
from queue_runner.unpacking import UnpackError, unpack
from queue_runner.wire import decode, from_plain

T = TypeVar("T")

#: Seconds for one request, and how often one that only reads is tried before giving up.
_TIMEOUT_S = 30.0
_TRIES = 3
_BACK_OFF_S = 0.3
#: Results come as the messages that they once were: no side has to turn them into JSON and back.
_PACKED = {"format": "msgpack"}
_MSGPACK = "application/vnd.msgpack"


class HttpRecords:
    """Raises `CollectorUnavailable`, `CollectorRefused` (token, request), `NotFound`."""

    def __init__(self, url: str, token: str | None, ca_file: Path | None = None) -> None:
        self.url = url.rstrip("/")
        try:
            self._http = Session(url, token, ca_file, timeout_s=_TIMEOUT_S)
        except ValueError as error:
            raise CollectorRefused(f"{url!r} is no collector URL: {error}") from error
        self._followed = Followed(self._http, self._arrivals)

    def close(self) -> None:
        self._followed.close()
        self._http.close()

    # -- Records -----------------------------------------------------------------------------------

    def studies(self) -> list[StudyStatus]:
        return [self._read(StudyStatus, item) for item in self._get("/v1/studies")]

    def study(self, study: str) -> StudyRecord:
        return self._read(StudyRecord, self._get(f"{_of(study)}/spec"))

    def status(self, study: str) -> StudyStatus:
        return self._read(StudyStatus, self._get(_of(study)))

    def results(
        self, study: str, *, after: int = -1, limit: int = 1000, states: Sequence[State] = ()
    ) -> list[Result]:
        query = {"after": after, "limit": limit}
        wanted = {"state": ",".join(state.value for state in states)} if states else {}
        return self._unpack(self._get(f"{_of(study)}/results", {**query, **wanted, **_PACKED}))[0]

    def arrivals(
        self,
        study: str,
        *,
        cursor: int = 0,
        limit: int = 1000,
        wait_s: float = 0.0,
        more: bool = False,
    ) -> Arrivals:
        query = {"limit": limit, **({"more": 1} if more else {}), **_PACKED}
        asked = Question(f"{_of(study)}/arrivals", query, cursor)
        if wait_s > 0 and (told := self._followed.take(asked, wait_s)) is not None:
            return told
        now = {**query, "cursor": cursor, "wait": _seconds(wait_s)}
        arrived = self._arrivals(self._get(asked.path, now))
        if wait_s > 0 and arrived.results and (more or not arrived.done):
            self._followed.begin(replace(asked, cursor=arrived.cursor))
        return arrived

    def _arrivals(self, packed: bytes) -> Arrivals:
        results, rest = self._unpack(packed)
        return Arrivals(results, int(rest["cursor"]), bool(rest["done"]))

    def missing(self, study: str, *, after: int = -1, limit: int = 1000) -> list[MissingJob]:
        answer = self._get(f"{_of(study)}/missing", {"after": after, "limit": limit})
        return [self._read(MissingJob, item) for item in answer]

    def points(self, study: str, *, after: int = -1, limit: int = 1000) -> list[AddedPoint]:
        answer = self._get(f"{_of(study)}/points", {"after": after, "limit": limit})
        return [self._read(AddedPoint, item) for item in answer]

    def allot(self, study: str, count: int) -> Allotment:
        return self._read(Allotment, self._post(f"{_of(study)}/allotments", {"count": count}))

    def result(self, job_id: str) -> Result:
        return self._read(Result, self._get(f"/v1/jobs/{quote(job_id, safe='')}"))

    def attempts(self, job_id: str) -> list[Result]:
        answer = self._get(f"/v1/jobs/{quote(job_id, safe='')}/attempts")
        return [self._read(Result, item) for item in answer]

    def workers(self) -> list[WorkerStatus]:
        return [self._read(WorkerStatus, item) for item in self._get("/v1/workers")]

    # -- control -----------------------------------------------------------------------------------

    def cancel(self, study: str, jobs: Sequence[str] = ()) -> None:
        self._post(f"{_of(study)}/cancel", {"jobs": list(jobs)})

    def retry(self, study: str, jobs: Sequence[str] = ()) -> None:
        self._post(f"{_of(study)}/retry", {"jobs": list(jobs)})

    # -- requests ----------------------------------------------------------------------------------

    def _get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        for attempt in range(_TRIES):
            try:
                return self._answer(self._http.request("GET", path, query))
            except Unanswered as error:
                self._check_trust(error)
                if attempt == _TRIES - 1:
                    raise self._unavailable(error) from error
                time.sleep(_BACK_OFF_S * 2**attempt)
        raise AssertionError("unreachable")

    def _post(self, path: str, body: object) -> Any:
        try:
            return self._answer(self._http.request("POST", path, json=body))
        except Unanswered as error:
            self._check_trust(error)
            raise self._unavailable(error) from error

    def _check_trust(self, error: Unanswered) -> None:
        if (why := distrust(error)) is not None:
            raise CollectorRefused(f"the collector at {self.url}: {why}") from error

    def _unavailable(self, error: Unanswered) -> CollectorUnavailable:
        return CollectorUnavailable(
            f"no collector answers at {self.url}: {str(error).rstrip('.') or type(error).__name__}."
            " Start one with `queue-runner collector`, or set QUEUE_RUNNER_COLLECTOR"
            f"{_or_https(self.url, error)}."
        )

    def _answer(self, response: Response) -> Any:
        if succeeded(response):
            try:
                if response.headers.get("content-type") == _MSGPACK:
                    return response.data
                return response.json()
            except ValueError as error:
                raise CollectorRefused(f"{self.url} answers, but is no collector") from error
        text = _message(response)
        if response.status == 401:
            raise CollectorRefused(
                f"the collector at {self.url} wants its token: set QUEUE_RUNNER_TOKEN_FILE to the"
                " file that holds it"
            )
        if response.status == 404:
            raise NotFound(text)
        if response.status == 503:
            raise CollectorUnavailable(f"the collector at {self.url}: {text}")
        raise CollectorRefused(f"the collector at {self.url}: {text}")

    def _read(self, expected: type[T], plain: Any) -> T:
        try:
            return from_plain(expected, plain)
        except WireError as error:
            raise self._of_another_kind(error) from error

    def _unpack(self, packed: Any) -> tuple[list[Result], dict[str, Any]]:
        """Results that came as the messages that they once were, and what came with them."""
        try:
            answer = unpack(packed)
            return [decode(body, Result) for body in answer.pop("results")], answer
        except (WireError, UnpackError, AttributeError, TypeError, KeyError) as error:
            raise self._of_another_kind(error) from error

    def _of_another_kind(self, error: Exception) -> CollectorRefused:
        return CollectorRefused(
            f"the collector at {self.url} gives another kind of answer: {error}."
            " Are client and collector of the same version?"
        )


def _or_https(url: str, error: Unanswered) -> str:
    """A server that speaks TLS hangs up on who does not."""
    return ", to https:// if it serves that" if error.hung_up and url.startswith("http:") else ""


def _seconds(value: float) -> str:
    """Rounded up to milliseconds: nobody asks again a moment too soon."""
    return f"{math.ceil(value * 1000) / 1000:g}"


def _of(study: str) -> str:
    return f"/v1/studies/{quote(study, safe='')}"


def _message(response: Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.status} {response.reason}"
