"""Run one job of a study again, here and by itself, and say whether it came to the same.

The job is made anew from the collector's record of its study: the same message, byte for byte, with the
same template from the store.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from queue_runner import plugins
from queue_runner.client.again import jobs_again
from queue_runner.client.client import Client
from queue_runner.model import Job, Result
from queue_runner.workers.attempt import attempt_job
from queue_runner.workers.bundles import Bundles
from queue_runner.workers.runtimes.base import RUNTIMES, Runtime, Stop
from queue_runner.workers.workplace import Workplace

_TIMES = ("execution_time", "clock_time")


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric or a kept file (by its SHA-256) that is not what it was; None where it is missing."""

    name: str
    before: object
    now: object


def job_of(client: Client, result: Result) -> Job:
    """The job that came to this result. Raises `NotFound` where its study is not known any more."""
    record = client.records.study(result.study)
    return next(jobs_again(client.records, record, [result.index]))


def run_again(client: Client, result: Result, folder: Path, runtime: str, stop: Stop) -> Result:
    """Run the job once more; its work folder stays in `folder`.

    Raises `StoreUnavailable` without its template, `UnknownScheme` for the runtime, `Stopped`.
    """
    job = job_of(client, result)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".rerun-", dir=folder) as scratch,
        closing(plugins.load(RUNTIMES, runtime)(Path(scratch))) as made,
    ):
        return attempt_job(_workplace(client, made, runtime, folder), job, result.attempt, stop)


def _workplace(client: Client, runtime: Runtime, name: str, folder: Path) -> Workplace:
    return Workplace(
        worker="rerun",
        runtime=runtime,
        runtime_name=name,
        store=client.store,
        bundles=Bundles(client.store, runtime.folder / "bundles"),
        folder=runtime.folder,
        kept=folder,
        keep="all",
    )


def differences(before: Result, now: Result) -> Iterator[Difference]:
    """What is not the same, but for how long it took."""
    if before.state is not now.state:
        yield Difference("state", before.state.value, now.state.value)
    yield from unequal(dict(before.metrics), dict(now.metrics))
    yield from unequal(_files(before), _files(now))


def is_time(name: str) -> bool:
    """Whether a metric says how long something took, which no two runs share."""
    return name in _TIMES or name.startswith("time_")


def unequal(before: Mapping[str, object], now: Mapping[str, object]) -> Iterator[Difference]:
    """What is not the same in two maps, but for those that say how long something took."""
    for name in [*before, *(name for name in now if name not in before)]:
        if is_time(name):
            continue
        # repr tells -0.0 from 0.0, and takes NaN for NaN
        if repr(before.get(name)) != repr(now.get(name)):
            yield Difference(name, before.get(name), now.get(name))


def _files(result: Result) -> dict[str, object]:
    """Kept files but for logs, which hold times and host names."""
    return {each.name: each.sha256 for each in result.artifacts if not each.name.startswith("log.")}
