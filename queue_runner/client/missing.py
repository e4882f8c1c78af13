"""Send jobs again that a broker has lost: those that were submitted and have no result.

From here a job that waits and one that is lost look alike. They are told apart by the broker having
nothing left: a result is with it from the moment its job is not, and with the collector afterwards.
So the three are asked in that order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import tee
from typing import TYPE_CHECKING

from queue_runner.brokers.base import Broker, Message
from queue_runner.client.again import jobs_again
from queue_runner.client.submit import BATCH, batches, job_message
from queue_runner.errors import CollectorUnavailable, FixThis
from queue_runner.model import INBOX_QUEUE, MissingJob, StudyRecord, job_queue
from queue_runner.records import Records

if TYPE_CHECKING:
    from queue_runner.client.client import Client

_PAGE = 1000
#: Seconds within which a collector that runs has acknowledged what it has taken in, and long since told.
_ACKNOWLEDGED_S = 1.0


def send_missing(client: Client, study: str, *, anyway: bool) -> int:
    """Publish them; returns how many. Each carries the attempt after the last one that was reported.

    Raises `FixThis` where the broker has jobs or results that they may be, unless `anyway`.
    """
    record = client.records.study(study)
    if not anyway:
        _insist_on_empty_queues(client, record)
    sent = 0
    for batch in batches(_messages(client, record), BATCH):
        client.broker.publish(batch)
        sent += len(batch)
    return sent


def _insist_on_empty_queues(client: Client, record: StudyRecord) -> None:
    with suppress(CollectorUnavailable):  # what is still there then is counted below
        client.await_inbox(_ACKNOWLEDGED_S)
    running = client.records.status(record.id).running
    for queue in (job_queue(record.queue), INBOX_QUEUE):
        held = max(_held(client.broker, queue), running)
        if held:
            raise FixThis(
                f"{held} messages are with the broker in queue {queue}, or run: jobs of {record.name}"
                " without a result may be among them. Wait until the queue is empty; or send all"
                " of them --anyway, and what is not lost runs twice and is recorded once."
            )


def _held(broker: Broker, queue: str) -> int:
    depth = broker.depth(queue)
    return depth.ready + (depth.delayed or 0) + (depth.leased or 0)


def _messages(client: Client, record: StudyRecord) -> Iterator[Message]:
    missing, numbers = tee(_missing(client.records, record.id))
    jobs = jobs_again(client.records, record, (each.index for each in numbers))
    for job, each in zip(jobs, missing, strict=True):
        yield job_message(job, seal=client.seal, attempt=each.attempts + 1)


def _missing(records: Records, study: str) -> Iterator[MissingJob]:
    after = -1
    while page := records.missing(study, after=after, limit=_PAGE):
        yield from page
        after = page[-1].index
