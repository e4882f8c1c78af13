"""A client, a real broker and a collector in this process; jobs are "run" by the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from queue_runner import Study
from queue_runner.brokers import Broker, Message
from queue_runner.client.client import Client, StudyHandle
from queue_runner.collector.database import Database
from queue_runner.collector.service import Collector
from queue_runner.model import INBOX_QUEUE, Failure, Job, Result, State, job_queue
from queue_runner.wire import batch, decode, encode
from tests.integration.system import eventually

JOBS = job_queue("default")


def study_of(jobs: int) -> Study:
    return Study(
        name="many",
        kind="command",
        parameters={"n": list(range(jobs))},
        command={"run": ["true", "{n}"]},
    )


class Bench:
    """A broker, a collector on a database, and a client; jobs are "run" by `work`."""

    def __init__(self, broker: Broker, database: Database, folder: Path) -> None:
        self.broker, self.database = broker, database
        self.client = Client.over(database, broker, folder.as_uri())

    def submit(self, jobs: int) -> StudyHandle:
        """Returns when the collector has heard of all of them."""
        handle = self.client.submit(study_of(jobs))
        self.client.await_inbox()
        eventually(lambda: (status := handle.status_or_none()) and status.submitted == jobs)
        return handle

    def lose(self, count: int) -> None:
        """Take jobs out of the queue and forget them."""
        held = self.broker.lease([JOBS], count, 10.0)
        assert len(held) == count
        assert self.broker.settle(done=held) == []

    def work(self, count: int, state: State = State.SUCCEEDED, final: bool = True) -> None:
        """Lease so many jobs and report them."""
        while count:
            held = self.broker.lease([JOBS], count, 10.0)
            assert held, f"{count} jobs have not come"
            results = [
                result_of(decode(each.body, Job), each.attempt, state, final) for each in held
            ]
            body = batch([encode(each) for each in results])
            self.broker.settle(done=held, publish=[Message(INBOX_QUEUE, body)])
            count -= len(held)

    def attempts(self, study: str) -> list[tuple[int, int, State]]:
        """Index, attempt and state of each final result."""
        results = self.database.results(study)
        return [(each.index, each.attempt, each.state) for each in results]


def result_of(job: Job, attempt: int, state: State, final: bool) -> Result:
    failure = Failure("exit-code", "it failed") if state is State.FAILED else None
    return Result(job.id, job.study, job.index, attempt, state, final, job.point, failure=failure)


@contextmanager
def collecting(broker: Broker, database: Database) -> Iterator[None]:
    collector = Collector(broker, database)
    thread = threading.Thread(target=collector.run)
    thread.start()
    try:
        yield
    finally:
        collector.drain()
        thread.join()
