"""The collector's HTTP API as `Records`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from queue_runner.errors import CollectorRefused, CollectorUnavailable, NotFound, WireError
from queue_runner.model import Result, State, StudyRecord, StudyStatus, WorkerStatus
from queue_runner.wire import from_plain

T = TypeVar("T")

#: Seconds for one request, and how often one that only reads is tried before giving up.
_TIMEOUT_S = 30.0
_TRIES = 3
_BACK_OFF_S = 0.3


class HttpRecords:
    """Raises `CollectorUnavailable`, `CollectorRefused` (token, request), `NotFound`."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT_S)
        except (httpx.InvalidURL, ValueError, TypeError) as error:
            raise CollectorRefused(f"{url!r} is no collector URL: {error}") from error

    def close(self) -> None:
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
        answer = self._get(f"{_of(study)}/results", {**query, **wanted})
        return [self._read(Result, item) for item in answer]

    def arrivals(
        self, study: str, *, cursor: int = 0, limit: int = 1000
    ) -> tuple[list[Result], int]:
        answer = self._get(f"{_of(study)}/arrivals", {"cursor": cursor, "limit": limit})
        return [self._read(Result, item) for item in answer["results"]], int(answer["cursor"])

    def result(self, job_id: str) -> Result:
        return self._read(Result, self._get(f"/v1/jobs/{quote(job_id, safe='')}"))

    def attempts(self, job_id: str) -> list[Result]:
        answer = self._get(f"/v1/jobs/{quote(job_id, safe='')}/attempts")
        return [self._read(Result, item) for item in answer]

    def workers(self) -> list[WorkerStatus]:
        return [self._read(WorkerStatus, item) for item in self._get("/v1/workers")]

    # -- control -----------------------------------------------------------------------------------

    def cancel(self, study: str, jobs: Sequence[str] = ()) -> None:
        self._post(f"{_of(study)}/cancel", jobs)

    def retry(self, study: str, jobs: Sequence[str] = ()) -> None:
        self._post(f"{_of(study)}/retry", jobs)

    # -- requests ----------------------------------------------------------------------------------

    def _get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        for attempt in range(_TRIES):
            try:
                return self._answer(self._http.get(path, params=query or {}))
            except httpx.TransportError as error:
                if attempt == _TRIES - 1:
                    raise self._unavailable(error) from error
                time.sleep(_BACK_OFF_S * 2**attempt)
        raise AssertionError("unreachable")

    def _post(self, path: str, jobs: Sequence[str]) -> Any:
        try:
            return self._answer(self._http.post(path, json={"jobs": list(jobs)}))
        except httpx.TransportError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: httpx.TransportError) -> CollectorUnavailable:
        return CollectorUnavailable(
            f"no collector answers at {self.url}: {str(error).rstrip('.') or type(error).__name__}."
            " Start one with `queue-runner collector`, or set QUEUE_RUNNER_COLLECTOR."
        )

    def _answer(self, response: httpx.Response) -> Any:
        if response.is_success:
            try:
                return response.json()
            except ValueError as error:
                raise CollectorRefused(f"{self.url} answers, but is no collector") from error
        text = _message(response)
        if response.status_code == 401:
            raise CollectorRefused(
                f"the collector at {self.url} wants its token: set QUEUE_RUNNER_TOKEN_FILE to the"
                " file that holds it"
            )
        if response.status_code == 404:
            raise NotFound(text)
        if response.status_code == 503:
            raise CollectorUnavailable(f"the collector at {self.url}: {text}")
        raise CollectorRefused(f"the collector at {self.url}: {text}")

    def _read(self, expected: type[T], plain: Any) -> T:
        try:
            return from_plain(expected, plain)
        except WireError as error:
            raise CollectorRefused(
                f"the collector at {self.url} gives another kind of answer: {error}."
                " Are client and collector of the same version?"
            ) from error


def _of(study: str) -> str:
    return f"/v1/studies/{quote(study, safe='')}"


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.reason_phrase}"
