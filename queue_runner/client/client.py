"""The Python API: submit a study, follow it, fetch its results.

from queue_runner import Client, Study, linear

study = Study(name="cavity", kind="openfoam", parameters={"nu": linear(0.01, 0.02, 3)}, ...)
with Client("redis://localhost") as client:
    handle = client.submit(study)
    for result in handle.as_completed():
        print(result.point, result.metrics)
    frame = handle.table()
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from queue_runner.brokers.base import Broker
from queue_runner.brokers.registry import connect
from queue_runner.client.adding import WAIT_S, Additions
from queue_runner.client.again import jobs_again
from queue_runner.client.config import Config, load_config
from queue_runner.client.fetch import Fetched, fetch_results
from queue_runner.client.frames import to_frame
from queue_runner.client.missing import send_missing
from queue_runner.client.submit import (
    Progress,
    job_message,
    send_template,
    submit_jobs,
    to_inbox,
)
from queue_runner.errors import CollectorUnavailable, EngineUnavailable, FixThis, NotFound
from queue_runner.model import (
    INBOX_QUEUE,
    CancelRequest,
    Result,
    RetryRequest,
    State,
    StudyRecord,
    StudyStatus,
    WorkerStatus,
)
from queue_runner.records import Arrivals, Records
from queue_runner.signing import UNSIGNED, Seal, open_seal
from queue_runner.store import Store, open_store
from queue_runner.tables import Row, flatten

if TYPE_CHECKING:
    from queue_runner.client.http import HttpRecords
    from queue_runner.study import Study

_PAGE = 1000
#: Seconds between questions for a study that is not known yet.
_UNKNOWN_S = 0.05
_UNFINISHED_STATES = (State.FAILED, State.CANCELLED)


class Client:
    """A connection to a queue-runner system: its broker, its collector, its store.

    broker, collector, store: URLs; token: the collector's bearer token; keys_file: what signs jobs and
    requests. What is not given comes from the environment or a configuration file (see
    `queue_runner.client.config`). Nothing is connected before it is needed.
    """

    def __init__(
        self,
        broker: str | None = None,
        *,
        collector: str | None = None,
        token: str | None = None,
        store: str | None = None,
        keys_file: str | None = None,
    ) -> None:
        self.config: Config = load_config(
            broker=broker, collector=collector, token=token, store=store, keys_file=keys_file
        )
        self._broker: Broker | None = None
        self._records: Records | None = None
        self._http: HttpRecords | None = None
        self._store: Store | None = None
        self._seal: Seal | None = None
        #: Called while results are waited for; raises where they will not come.
        self.attend: Callable[[], None] = lambda: None
        self._owned: list[Any] = []

    @classmethod
    def over(
        cls, records: Records, broker: Broker | None, store_url: str, seal: Seal = UNSIGNED
    ) -> Self:
        """A client over parts that somebody else opened, and will close: an embedded run's."""
        client = cls(store=store_url)
        client._records, client._broker, client._seal = records, broker, seal
        return client

    @property
    def broker(self) -> Broker:
        if self._broker is None:
            self._broker = connect(self.config.broker)
            self._owned.append(self._broker)
        return self._broker

    @property
    def records(self) -> Records:
        if self._records is None:
            # an HTTP client takes long to import, and most that `run` does needs none
            from queue_runner.client.http import HttpRecords

            http = HttpRecords(self.config.collector, self.config.token, self.config.ca_file)
            self._records = self._http = http
            self._owned.append(http)
        return self._records

    @property
    def store(self) -> Store:
        if self._store is None:
            config = self.config
            self._store = open_store(
                config.store, config.store_token, config.ca_file, config.bundles
            )
            self._owned.append(self._store)
        return self._store

    @property
    def seal(self) -> Seal:
        if self._seal is None:
            self._seal = open_seal(self.config.keys_file)
        return self._seal

    # -- submit -------------------------------------------------------------------------------

    def submit(self, study: Study, progress: Progress | None = None) -> StudyHandle:
        """Enqueue the jobs of a study that have not been enqueued yet, and return at once.

        A study that is open has none; its handle's `add` and `evaluate` make them.

        The same study (see `Study`: what determines its results) is the same study id: submitting it
        again goes on where a submission was interrupted, and otherwise changes nothing.
        Raises `StudyError`, `BrokerUnavailable`, `BrokerRefused`, `CollectorUnavailable`,
        `KeysRefused`.
        """
        seal = self.seal
        study = pinned(study)
        bundle = send_template(study, self.store)
        record = study.record(bundle, time.time())
        if record.open:
            self._submit_open(record, seal)
            return StudyHandle(self, record.id, record)
        start = self._submitted(record.id)
        if start < record.total:
            jobs = study.jobs(bundle, start=start)
            submit_jobs(self.broker, record, jobs, start=start, progress=progress, seal=seal)
        return StudyHandle(self, record.id)

    def _submit_open(self, record: StudyRecord, seal: Seal) -> None:
        try:
            self.records.status(record.id)
        except NotFound:
            self.broker.publish([to_inbox(record, seal)])

    def check(self) -> None:
        """Raises at once what would keep a study from being submitted: `KeysRefused`, `BrokerUnavailable`,
        `BrokerRefused`.
        """
        self._seal = self.seal
        self.broker.server()

    def _submitted(self, study_id: str) -> int:
        try:
            return self.records.status(study_id).submitted
        except NotFound:
            return 0

    # -- follow -------------------------------------------------------------------------------

    def handle(self, study: str) -> StudyHandle:
        """The handle of a study known to the collector, by id or (the latest of that) name."""
        return StudyHandle(self, self.records.study(study).id)

    def studies(self) -> list[StudyStatus]:
        return self.records.studies()

    def workers(self) -> list[WorkerStatus]:
        return self.records.workers()

    def result(self, job_id: str) -> Result:
        return self.records.result(job_id)

    def logs(self, result: Result) -> Iterator[tuple[str, str]]:
        """Name and text of each log that a result's steps wrote, from the store.

        Raises `NotFound` or `StoreUnavailable` where the store that kept them is not reached from here.
        """
        for artifact in result.artifacts:
            if artifact.name.startswith("log."):
                content = io.BytesIO()
                self.store.get(artifact.sha256, content)
                yield artifact.name, content.getvalue().decode("utf-8", "replace")

    # -- control ------------------------------------------------------------------------------

    def cancel(self, study: str, jobs: Sequence[str] = ()) -> int:
        """Cancel jobs (all unfinished ones where none are named); returns how many were unfinished.

        Running jobs are ended; waiting ones are never started. Finished ones stay as they are.
        """
        handle = self.handle(study)
        before = handle.status().cancelled
        if self._http is not None:
            self._http.cancel(handle.id, jobs)
        else:
            request = CancelRequest(study=handle.id, jobs=tuple(jobs))
            self.broker.publish([to_inbox(request, self.seal)])
            self.await_inbox()
        return handle.status().cancelled - before

    def retry(self, study: str, jobs: Sequence[str] = ()) -> int:
        """Enqueue failed and cancelled jobs again (all, or those named); returns how many."""
        record = self.records.study(study)
        again = [
            result
            for result in self._all(record.id, _UNFINISHED_STATES)
            if not jobs or result.job_id in jobs
        ]
        missing = set(jobs) - {result.job_id for result in again}
        if missing:
            raise FixThis(
                f"neither failed nor cancelled, so not sent again: {', '.join(sorted(missing))}"
            )
        self._lift(record.id, [result.job_id for result in again])
        rebuilt = jobs_again(self.records, record, [result.index for result in again])
        messages = [
            # a second's delay lets the lifted cancel reach the workers before the job does
            job_message(job, seal=self.seal, attempt=result.attempt + 1, delay_s=1.0)
            for job, result in zip(rebuilt, again, strict=True)
        ]
        for first in range(0, len(messages), _PAGE):
            self.broker.publish(messages[first : first + _PAGE])
        return len(messages)

    def retry_missing(self, study: str, *, anyway: bool = False) -> int:
        """Enqueue submitted jobs again that have no result, for a broker lost them; returns how many.

        Raises `FixThis` while the broker holds messages that they may be, unless `anyway`: then those
        that are not lost run twice, and are recorded once.
        """
        return send_missing(self, study, anyway=anyway)

    def _lift(self, study: str, jobs: Sequence[str]) -> None:
        for first in range(0, len(jobs), _PAGE):
            some = tuple(jobs[first : first + _PAGE])
            if self._http is not None:
                self._http.retry(study, some)
            else:
                self.broker.publish([to_inbox(RetryRequest(study=study, jobs=some), self.seal)])
        if self._http is None:
            self.await_inbox()

    def await_inbox(self, timeout_s: float = 30.0) -> None:
        """Wait until the collector has taken in all that is in its queue."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            depth = self.broker.depth(INBOX_QUEUE)
            if not depth.ready and not depth.leased:
                return
            time.sleep(0.02)
        raise CollectorUnavailable(
            f"the collector did not take in the request within {timeout_s:.0f} s; it will when it runs"
        )

    def _all(self, study: str, states: Sequence[State]) -> Iterator[Result]:
        after = -1
        while page := self.records.results(study, after=after, limit=_PAGE, states=states):
            yield from page
            after = page[-1].index

    # -- close --------------------------------------------------------------------------------

    def close(self) -> None:
        for part in self._owned:
            part.close()
        self._owned.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def pinned(study: Study) -> Study:
    """The study with the digest that its image's tag means now, in the Docker engine of this machine.

    Raises `FixThis` where there is no such image here, `EngineUnavailable` without an engine.
    """
    if study.image is None or "@" in study.image:
        return study
    from queue_runner.images.engine import open_engine
    from queue_runner.workers.runtimes.docker.images import pin

    try:
        with open_engine() as engine:
            return study.with_image(pin(engine, study.image))
    except EngineUnavailable as error:
        raise EngineUnavailable(
            f"{error}. It is needed to pin the image {study.image} of study {study.name}; or name the"
            " image with its digest (@sha256:..., from `docker inspect` where it is)"
        ) from error


def _end(timeout_s: float | None) -> float:
    return math.inf if timeout_s is None else time.monotonic() + timeout_s


class StudyHandle:
    """A submitted study. record: of an open one, what its further jobs are made from."""

    def __init__(self, client: Client, study_id: str, record: StudyRecord | None = None) -> None:
        self.client = client
        self.id = study_id
        self._record = record
        self._additions: Additions | None = None

    def __repr__(self) -> str:
        return f"StudyHandle({self.id!r})"

    def record(self) -> StudyRecord:
        return self.client.records.study(self.id)

    def status(self) -> StudyStatus:
        return self.client.records.status(self.id)

    def results(self, states: Sequence[State] = ()) -> Iterator[Result]:
        """Final results so far, in the order of the points."""
        return self.client._all(self.id, states)

    def as_completed(self, timeout_s: float | None = None) -> Iterator[Result]:
        """Results as they arrive, until every job has one.

        Raises `TimeoutError` when none arrived for `timeout_s` seconds.
        """
        cursor, seen, end = 0, 0, _end(timeout_s)
        # the collector may not have heard of these yet
        added = set(self._additions.added) if self._additions is not None else set()
        while True:
            self.client.attend()
            wait_s = min(WAIT_S, max(0.0, end - time.monotonic()))
            arrived = self._arrivals(cursor, wait_s, more=bool(added))
            yield from arrived.results
            added.difference_update(result.index for result in arrived.results)
            if arrived.done and not added:
                return
            cursor, seen = arrived.cursor, seen + len(arrived.results)
            if arrived.results:
                end = _end(timeout_s)
            elif time.monotonic() >= end:
                raise TimeoutError(
                    f"{self.id}: no result for {timeout_s:g} s; {seen} have come."
                    " Is a worker running? See `queue-runner status`."
                )

    def _arrivals(self, cursor: int, wait_s: float, more: bool) -> Arrivals:
        try:
            return self.client.records.arrivals(self.id, cursor=cursor, wait_s=wait_s, more=more)
        except NotFound:  # submitted a moment ago: the collector has not taken it in yet
            time.sleep(min(_UNKNOWN_S, wait_s))
            return Arrivals((), cursor, done=False)

    def status_or_none(self) -> StudyStatus | None:
        """The status; None while the collector has not taken the study in yet."""
        try:
            return self.status()
        except NotFound:
            return None

    def wait(self, timeout_s: float | None = None) -> StudyStatus:
        """Wait until every job has a result."""
        for _ in self.as_completed(timeout_s):
            pass
        return self.status()

    # -- an open study -----------------------------------------------------------------------

    def add(self, *points: Mapping[str, object]) -> list[str]:
        """Enqueue a job for each of these points of an open study; returns the ids of the jobs.

        A point gives a value to each parameter that is open. The same point twice is two jobs. After
        an error some of them may have been enqueued.
        Raises `StudyError`, `FixThis` for a study that is not open, `BrokerUnavailable`, `BrokerRefused`,
        `CollectorUnavailable`, `KeysRefused`.
        """
        return self._adding().add(points)

    def next_result(self, timeout_s: float | None = None) -> Result:
        """The next result of the points that this handle has added, in the order in which they arrive.

        Raises `FixThis` where all have been told, `TimeoutError` when none arrived for `timeout_s` seconds.
        """
        return self._adding().next_result(timeout_s)

    def evaluate(self, point: Mapping[str, object], timeout_s: float | None = None) -> Result:
        """Add a point to an open study, and wait for its result. Raises as `add` and `next_result`."""
        return self._adding().evaluate(point, timeout_s)

    def _adding(self) -> Additions:
        if self._additions is None:
            client = self.client
            self._additions = Additions(
                client.records, client.broker, client.seal, self.id, self._record, client.attend
            )
        return self._additions

    def rows(self, states: Sequence[State] = ()) -> Iterator[Row]:
        """Results as flat maps: parameters, state, metrics."""
        parameters = self.record().parameters
        return (flatten(result, parameters) for result in self.results(states))

    def fetch(
        self, target: Path | str, match: Sequence[str] = (), states: Sequence[State] = ()
    ) -> Fetched:
        """Write the files that the jobs kept to `TARGET/JOB-ID/NAME`; see `client.fetch`."""
        store, results = self.client.store, self.results(states)
        return fetch_results(store, results, Path(target), patterns=match)

    def table(self, library: Literal["polars", "pandas"] = "polars") -> Any:
        """Results as a data frame. Raises `MissingTool` when the library is not installed."""
        return to_frame(self.rows(), library)

    def cancel(self, jobs: Sequence[str] = ()) -> int:
        return self.client.cancel(self.id, jobs)

    def retry(self, jobs: Sequence[str] = ()) -> int:
        return self.client.retry(self.id, jobs)

    def retry_missing(self, *, anyway: bool = False) -> int:
        return self.client.retry_missing(self.id, anyway=anyway)
