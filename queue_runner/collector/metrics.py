"""The collector's counters in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from queue_runner.collector.database import FRESH_S, Database
from queue_runner.collector.service import Counters


class Metrics:
    """`text()` is made anew from the database and the service's counters each time it is asked for."""

    def __init__(self, database: Database, counters: Counters) -> None:
        self._database, self._counters = database, counters
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        return bytes(generate_latest(self._registry))

    def describe(self) -> list[Metric]:
        return []  # nothing is asked of the database before somebody wants the text

    def collect(self) -> Iterator[Metric]:
        results = GaugeMetricFamily(
            "queue_runner_jobs", "Jobs with a final result", labels=["state"]
        )
        for state, count in self._database.counts().items():
            results.add_metric([state], count)
        yield results
        fresh = [worker for worker in self._database.workers() if worker.age_s <= FRESH_S]
        yield _gauge("workers", "Workers heard of lately", len(fresh))
        yield _gauge("worker_cores", "Cores of these workers", sum(w.cores for w in fresh))
        yield _gauge("jobs_running", "Jobs that run on them", sum(len(w.running) for w in fresh))
        yield _counter("inbox_batches", "Batches taken in", self._counters.batches)
        yield _counter("inbox_items", "Results and requests taken in", self._counters.items)
        yield _counter("inbox_dead", "Messages that were none of ours", self._counters.dead)
        yield _counter("database_seconds", "Time in the database", self._counters.database_s)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"queue_runner_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"queue_runner_{name}", text, value=value)
