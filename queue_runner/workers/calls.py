"""Jobs that are much shorter than what surrounds them: many by one warm process, one after another.

A job that writes nothing and prints nothing needs neither folder nor log: its result is made from the answer
alone. All others end as every attempt does (`attempt.end_call`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from queue_runner.errors import DiskFull, JobError
from queue_runner.model import Failure, Job, Result, State
from queue_runner.workers.attempt import (
    Workplace,
    attempt_job,
    end_call,
    failed,
    find_kind,
    provenance,
)
from queue_runner.workers.kinds.base import Call, Kind
from queue_runner.workers.runtimes.base import Called, Calls, Stop
from queue_runner.workers.spawner import NOT_STARTED

_MAX_FACTS = 100


@dataclass(frozen=True, slots=True)
class Turn:
    """A job whose turn it is, and which attempt at it."""

    job: Job
    attempt: int


class CallLane:
    """Safe to use from several threads."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._folder: Path | None = None
        self._provenance: dict[Hashable, dict[str, str]] = {}

    def key(self, job: Job) -> Hashable | None:
        """Equal for jobs that may be done together; None for a job that takes the ordinary way."""
        if not self._place.runtime.calls or job.resume is not None or self._place.keep == "all":
            return None
        try:
            call = find_kind(job.kind).call(job)
            key = call and (job.study, job.bundle, job.kind, call.function, job.resources)
            hash(key)
        except Exception:  # noqa: BLE001 - on the ordinary way it costs its own job only, and is told
            return None
        return key

    def takes(self, job: Job, count: int) -> bool:
        """Whether so many jobs that have the key of this one are to be done here."""
        call = find_kind(job.kind).call(job)
        return call is not None and (call.alone or count > 1)

    def run(
        self, turns: Sequence[Turn], stop: Stop, held: Callable[[int], None]
    ) -> Iterator[Result]:
        """Results of as many of the turns as were done, in their order; of fewer where the process ended
        with one of them, or `stop` was thrown. Where one takes long, `held` is told after how many turns this
        one ends. Raises as `attempt_job` does.
        """
        first = turns[0]
        kind = find_kind(first.job.kind)
        try:
            called, calls = self._called(kind, turns, stop, held)
        except JobError as error:
            yield failed(self._place, first.job, first.attempt, error)
            return
        except OSError as error:
            raise DiskFull(f"work folders in {self._place.folder}: {error.strerror}") from error
        facts: Mapping[str, str] = {}
        for turn, each, call in zip(turns, called, calls, strict=False):
            if each.folder is None and each.outcome.exit_code == 0:
                facts = facts or self._facts(kind, first.job)
                yield self._result(kind, turn, each, call, facts)
            elif each.outcome.exit_code == NOT_STARTED:
                yield attempt_job(self._place, turn.job, turn.attempt, stop)
            else:
                yield end_call(self._place, turn.job, turn.attempt, each, call, stop)

    def _called(
        self, kind: Kind, turns: Sequence[Turn], stop: Stop, held: Callable[[int], None]
    ) -> tuple[list[Called], list[Call]]:
        first = turns[0].job
        calls = [call for turn in turns if (call := kind.call(turn.job)) is not None]
        with self._template(first) as template:
            asked = Calls(
                step=calls[0].step,
                function=calls[0].function,
                jobs=[(turn.job.id, call.args) for turn, call in zip(turns, calls, strict=True)],
                template=template,
                folder=self._made(),
                held=held,
            )
            return self._place.runtime.call(asked, first, stop), calls

    @contextmanager
    def _template(self, job: Job) -> Iterator[Path | None]:
        if job.bundle is None:
            yield None
        else:
            with self._place.bundles.borrowed(job.bundle) as folder:
                yield folder

    def _made(self) -> Path:
        if self._folder is None or not self._folder.is_dir():
            self._folder = Path(tempfile.mkdtemp(prefix="calls-", dir=self._place.folder))
        return self._folder

    def _result(
        self, kind: Kind, turn: Turn, called: Called, call: Call, facts: Mapping[str, str]
    ) -> Result:
        job, wall_s = turn.job, called.outcome.wall_s
        metrics, failure = {}, None
        try:
            if called.returned is not None:
                metrics = kind.returned(job, called.returned)
        except JobError as error:
            failure = Failure(error.reason, str(error), error.step, error.exit_code)
        return Result(
            job_id=job.id,
            study=job.study,
            index=job.index,
            attempt=turn.attempt,
            state=State.SUCCEEDED if failure is None else State.FAILED,
            final=True,
            point=job.point,
            metrics=metrics,
            failure=failure,
            started_at=called.started_at,
            finished_at=called.started_at + wall_s,
            timings={"run": round(wall_s, 6)},
            worker=self._place.worker,
            provenance=facts,
        )

    def _facts(self, kind: Kind, job: Job) -> dict[str, str]:
        """The same for all jobs of a lane, since none has a folder to look at."""
        key = (job.study, job.bundle, job.kind, job.resources)
        if key not in self._provenance:
            if len(self._provenance) >= _MAX_FACTS:
                self._provenance.clear()
            self._provenance[key] = provenance(self._place, kind, job, self._made())
        return self._provenance[key]

    def close(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
