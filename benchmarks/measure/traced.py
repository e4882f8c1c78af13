"""A daemon of queue-runner that marks when a job comes past it.

python -m measure.traced FILE queue-runner worker --cores 2
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from measure.marks import Marks
from queue_runner.brokers.base import Broker, Message
from queue_runner.model import INBOX_QUEUE, Result


def trace_client(marks: Marks) -> None:
    from queue_runner.client.client import Client
    from queue_runner.client.http import HttpRecords

    marks.before(Client, "submit", "submit")
    marks.before(Client, "_submitted", "ask")
    marks.after(Client, "_submitted", "told known")
    marks.before(HttpRecords, "arrivals", "awaiting")
    marks.before(HttpRecords, "_unpack", "received")


def trace_publishing(marks: Marks, broker: Broker) -> None:
    """The job of a study, and the note that it is sent."""

    def has_job(messages: Sequence[Message], *_: object) -> bool:
        return any(message.queue != INBOX_QUEUE for message in messages)

    marks.before(broker, "publish", "post", has_job)
    marks.after(broker, "publish", "confirmed", has_job)
    marks.after(broker, "publish", "noted", lambda *args: not has_job(*args))


def trace_worker(marks: Marks) -> None:
    from queue_runner.workers.daemon import Worker
    from queue_runner.workers.endings import Endings
    from queue_runner.workers.settler import Settler

    marks.before(Worker, "_admit", "leased", lambda _, deliveries: bool(deliveries))
    started = Settler.__init__

    def start(settler: Settler, broker: Broker, *others: Any) -> None:
        marks.before(broker, "settle", "settle")
        started(settler, broker, *others)

    Settler.__init__ = start  # type: ignore[assignment, method-assign]
    marks.before(Endings, "_settled", "settled")


def trace_collector(marks: Marks) -> None:
    from queue_runner.collector.database import Database
    from queue_runner.collector.news import News
    from queue_runner.collector.service import Collector
    from queue_runner.collector.waiting import Waiting

    def has_result(_: object, items: Sequence[object], *__: object) -> bool:
        return any(isinstance(item, Result) for item in items)

    marks.before(Database, "apply", "collected", has_result)
    marks.before(News, "tell", "committed")
    marks.after(Collector, "_finish", "acknowledged")
    answer_of = Waiting.answer

    @wraps(answer_of)
    async def answering(*args: Any) -> Any:
        answer = await answer_of(*args)
        marks.add("answer")
        return answer

    Waiting.answer = answering  # type: ignore[method-assign, assignment]


_TRACED = {"worker": trace_worker, "collector": trace_collector}


def main() -> None:
    from queue_runner.cli import main as run

    path, sys.argv = Path(sys.argv[1]), sys.argv[2:]
    if (trace := _TRACED.get(sys.argv[1])) is not None:
        trace(Marks(path))
    run()


if __name__ == "__main__":
    main()
