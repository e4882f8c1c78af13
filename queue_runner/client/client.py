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
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from queue_runner.brokers.base import Broker
from queue_runner.brokers.registry import connect
from queue_runner.client.config import Config, load_config
from queue_runner.client.fetch import Fetched, fetch_results
from queue_runner.client.frames import to_frame
from queue_runner.client.http import HttpRecords
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
from queue_runner.records import Records
from queue_runner.store import Store, open_store
from queue_runner.tables import Row, flatten

if TYPE_CHECKING:
    from queue_runner.study import Study

_PAGE = 1000
_UNFINISHED_STATES = (State.FAILED, State.CANCELLED)


class Client:
    """A connection to a queue-runner system: its broker, its collector, its store.

    broker, collector, store: URLs; token: the collector's bearer token. What is not given comes from
    the environment or a configuration file (see `queue_runner.client.config`). Nothing is connected
    before it is needed.
    """

    def __init__(
        self,
        broker: str | None = None,
        *,
        collector: str | None = None,
        token: str | None = None,
        store: str | None = None,
    ) -> None:
        self.config: Config = load_config(
            broker=broker, collector=collector, token=token, store=store
        )
        self._broker: Broker | None = None
        self._records: Records | None = None
        self._store: Store | None = None
        self._owned: list[Any] = []

    @classmethod
    def over(cls, records: Records, broker: Broker | None, store_url: str) -> Self:
        """A client over parts that somebody else opened, and will close: an embedded run's."""
        client = cls(store=store_url)
        client._records, client._broker = records, broker
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
            http = HttpRecords(self.config.collector, self.config.token)
            self._records = http
            self._owned.append(http)
        return self._records

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = open_store(self.config.store, self.config.store_token)
            self._owned.append(self._store)
        return self._store

    # -- submit -------------------------------------------------------------------------------

    def submit(self, study: Study, progress: Progress | None = None) -> StudyHandle:
        """Enqueue the jobs of a study that have not been enqueued yet, and return at once.

        The same study (see `Study`: what determines its results) is the same study id: submitting it
        again goes on where a submission was interrupted, and otherwise changes nothing.
        Raises `StudyError`, `BrokerUnavailable`, `BrokerRefused`, `CollectorUnavailable`.
        """
        study = pinned(study)
        bundle = send_template(study, self.store)
        record = study.record(bundle, time.time())
        start = self._submitted(record.id)
        if start < record.total:
            jobs = study.jobs(bundle, start=start)
            submit_jobs(self.broker, record, jobs, start=start, progress=progress)
        return StudyHandle(self, record.id)

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
        if isinstance(self.records, HttpRecords):
            self.records.cancel(handle.id, jobs)
        else:
            self.broker.publish([to_inbox(CancelRequest(study=handle.id, jobs=tuple(jobs)))])
            self.await_inbox()
        return handle.status().cancelled - before

    def retry(self, study: str, jobs: Sequence[str] = ()) -> int:
        """Enqueue failed and cancelled jobs again (all, or those named); returns how many."""
        from queue_runner.study import Study

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
        rebuilt = Study.from_spec(record.spec)
        messages = [
            # a second's delay lets the lifted cancel reach the workers before the job does
            job_message(
                rebuilt.job(result.index, record.bundle), attempt=result.attempt + 1, delay_s=1.0
            )
            for result in again
        ]
        for first in range(0, len(messages), _PAGE):
            self.broker.publish(messages[first : first + _PAGE])
        return len(messages)

    def _lift(self, study: str, jobs: Sequence[str]) -> None:
        for first in range(0, len(jobs), _PAGE):
            some = tuple(jobs[first : first + _PAGE])
            if isinstance(self.records, HttpRecords):
                self.records.retry(study, some)
            else:
                self.broker.publish([to_inbox(RetryRequest(study=study, jobs=some))])
        if not isinstance(self.records, HttpRecords):
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


class StudyHandle:
    """A submitted study."""

    def __init__(self, client: Client, study_id: str) -> None:
        self.client = client
        self.id = study_id

    def __repr__(self) -> str:
        return f"StudyHandle({self.id!r})"

    def record(self) -> StudyRecord:
        return self.client.records.study(self.id)

    def status(self) -> StudyStatus:
        return self.client.records.status(self.id)

    def results(self, states: Sequence[State] = ()) -> Iterator[Result]:
        """Final results so far, in the order of the points."""
        return self.client._all(self.id, states)

    def as_completed(self, timeout_s: float | None = None, poll_s: float = 0.2) -> Iterator[Result]:
        """Results as they arrive, until every job has one.

        Raises `TimeoutError` when none arrived for `timeout_s` seconds.
        """
        cursor, seen, quiet_since = 0, 0, time.monotonic()
        while True:
            status = self.status_or_none()
            arrived: list[Result] = []
            if status is not None:
                arrived, cursor = self.client.records.arrivals(self.id, cursor=cursor)
            yield from arrived
            if arrived:
                seen, quiet_since = seen + len(arrived), time.monotonic()
                continue
            # the status was asked for before the arrivals: nothing can have come in between
            if status is not None and status.done:
                return
            if timeout_s is not None and time.monotonic() - quiet_since > timeout_s:
                raise TimeoutError(
                    f"{self.id}: no result for {timeout_s:g} s; {seen} have come."
                    " Is a worker running? See `queue-runner status`."
                )
            time.sleep(poll_s)

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
