"""Send a study's jobs to the broker, in batches, so that doing it again goes on where it stopped.

The first batch travels with the study, each later one with a `JobsSubmitted` for the collector that tells of
the batches *before* it, which have been confirmed: brokers may store a part of what they are given and fail,
and a note that is there before its jobs would have them never sent. So a client that was killed half-way
repeats two batches at most, and the collector keeps one result per job in any case.

Where one batch is all, the study comes after it, with its note: a worker has the job by then, and the
collector one batch less to take in while it waits for the result. A result that comes before its study waits
for it in the collector's database.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from queue_runner.brokers.base import Broker, Message
from queue_runner.model import INBOX_QUEUE, Job, JobsSubmitted, StudyRecord, job_queue
from queue_runner.signing import REQUESTS, UNSIGNED, Seal, on_queue
from queue_runner.store import Store
from queue_runner.wire import batch as encode_batch
from queue_runner.wire import encode, fits_in_batch

if TYPE_CHECKING:
    from queue_runner.study import Study

T = TypeVar("T")

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


def job_message(
    job: Job, *, seal: Seal = UNSIGNED, attempt: int = 1, delay_s: float = 0.0
) -> Message:
    """Raises `KeysRefused`."""
    queue = job_queue(job.queue)
    return Message(
        queue=queue,
        body=seal.seal(encode(job), on_queue(queue)),
        size=job.resources.cores,
        priority=job.priority,
        attempt=attempt,
        delay_s=delay_s,
    )


def to_inbox(item: object, seal: Seal = UNSIGNED) -> Message:
    """A message for the collector, ahead of waiting results. Raises `KeysRefused`."""
    return _to_inbox(encode(item), seal)


def _to_inbox(body: bytes, seal: Seal) -> Message:
    return Message(queue=INBOX_QUEUE, body=seal.seal(body, REQUESTS), priority=1)


def _together(items: Sequence[object], seal: Seal) -> list[Message]:
    """For the collector as one message, where it may be one. Raises `KeysRefused`."""
    bodies = [encode(item) for item in items]
    if len(bodies) > 1 and all(map(fits_in_batch, bodies)):
        bodies = [encode_batch(bodies)]
    return [_to_inbox(body, seal) for body in bodies]


def submit_jobs(
    broker: Broker,
    record: StudyRecord,
    jobs: Iterable[Job],
    *,
    start: int,
    progress: Progress | None = None,
    timeout_s: float = 60.0,
    seal: Seal = UNSIGNED,
) -> int:
    """Publish `jobs`, the first of which has the index `start`; returns how many were sent.

    Calls `progress(sent so far counted from 0, total)` after each confirmed batch.
    Raises `BrokerUnavailable`, `BrokerRefused`, `StudyError`, `KeysRefused`.
    """
    upto = start
    news: list[object] = [record]
    with_jobs = record.total - start > BATCH
    for batch in batches(jobs, BATCH):
        messages = [job_message(job, seal=seal) for job in batch]
        broker.publish([*_together(news, seal), *messages] if with_jobs else messages, timeout_s)
        upto += len(batch)
        note = JobsSubmitted(study=record.id, upto=upto)
        news = [note] if with_jobs else [*news, note]
        if progress is not None:
            progress(upto, record.total)
    broker.publish(_together(news, seal), timeout_s)
    return upto - start


def batches(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
