"""Send a study's jobs to the broker, in batches, so that doing it again goes on where it stopped.

Each batch travels with a `JobsSubmitted` for the collector. Redis and the ZeroMQ server store the two
together; RabbitMQ confirms both before the next batch is sent. So a client that was killed half-way
repeats at most one batch, and the collector keeps one result per job in any case.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from queue_runner.brokers.base import Broker, Message
from queue_runner.model import INBOX_QUEUE, Job, JobsSubmitted, StudyRecord, job_queue
from queue_runner.store import Store
from queue_runner.wire import encode

if TYPE_CHECKING:
    from queue_runner.study import Study

#: Jobs a message batch holds: enough to make round trips invisible, small enough to repeat.
BATCH = 500

Progress = Callable[[int, int], None]


def send_template(study: Study, store: Store) -> str | None:
    """Put what goes with the jobs into the store; returns its hash, None where there is nothing.

    Raises `StudyError`, and what the store does.
    """
    if study.bundle is not None:
        return study.bundle
    template = study.template()
    return None if template is None else store.put_folder(template.folder, template.exclude)


def job_message(job: Job, *, attempt: int = 1, delay_s: float = 0.0) -> Message:
    return Message(
        queue=job_queue(job.queue),
        body=encode(job),
        size=job.resources.cores,
        priority=job.priority,
        attempt=attempt,
        delay_s=delay_s,
    )


def to_inbox(item: object) -> Message:
    """A message for the collector, ahead of waiting results."""
    return Message(queue=INBOX_QUEUE, body=encode(item), priority=1)


def submit_jobs(
    broker: Broker,
    record: StudyRecord,
    jobs: Iterable[Job],
    *,
    start: int,
    progress: Progress | None = None,
    timeout_s: float = 60.0,
) -> int:
    """Publish `jobs`, the first of which has the index `start`; returns how many were sent.

    Calls `progress(sent so far counted from 0, total)` after each confirmed batch.
    Raises `BrokerUnavailable`, `BrokerRefused`, `StudyError`.
    """
    broker.publish([to_inbox(record)], timeout_s)
    upto = start
    for batch in _batches(jobs, BATCH):
        upto += len(batch)
        marker = to_inbox(JobsSubmitted(study=record.id, upto=upto))
        broker.publish([*map(job_message, batch), marker], timeout_s)
        if progress is not None:
            progress(upto, record.total)
    return upto - start


def _batches(jobs: Iterable[Job], size: int) -> Iterator[Sequence[Job]]:
    remaining = iter(jobs)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
