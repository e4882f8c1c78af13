"""Jobs that are much shorter than what surrounds them: many by one warm process, one after another.

A job that writes nothing and prints nothing needs neither folder nor log: its result is made from the answer
alone. All others end as every attempt does (`attempt.end_call`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from queue_runner.errors import DiskFull, JobError
from queue_runner.model import Failure, Job, Result, Scalar, State, like
from queue_runner.workers.attempt import attempt_job, end_call
from queue_runner.workers.kinds.base import Call, Kind
from queue_runner.workers.record import failed, provenance
from queue_runner.workers.runtimes.base import Called, Calling, Calls, Stop
from queue_runner.workers.spawner import NOT_STARTED
from queue_runner.workers.workplace import Workplace, find_kind

_MAX_FACTS = 100


class Turn(NamedTuple):
    """A job whose turn it is, and which attempt at it."""

    job: Job
    attempt: int


@dataclass(frozen=True, slots=True)
class Asked:
    """Turns that a process was asked for; `left` when they are over."""

    turns: Sequence[Turn]
    calls: Sequence[Call]
    stop: Stop
    calling: Calling
    left: ExitStack


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
        self,
        turns: Sequence[Turn],
        stop: Stop,
        held: Callable[[int], None],
        under_way: Callable[[Asked], None] = lambda asked: None,
    ) -> Iterator[Result]:
        """Results of as many of the turns as were done, in their order; of fewer where the process ended
        with one of them, or `stop` was thrown. Where one takes long, `held` is told after how many turns this
        one ends. under_way: told before anything is waited for. Raises as `attempt_job` does.
        """
        try:
            asked = self._asked(turns, stop, held)
        except JobError as error:
            yield failed(self._place, turns[0].job, turns[0].attempt, error)
            return
        under_way(asked)
        yield from self.results(asked)

    def follow(
        self, asked: Asked, turns: Sequence[Turn], stop: Stop, held: Callable[[int], None]
    ) -> Asked | None:
        """Turns with the same key for the same process, which goes on with them when it is done with those;
        their `results` have to be asked for. None where they are to be run anew.
        """
        with ExitStack() as left, self._on_disk():
            calls, wanted = self._wanted(turns, held, left)
            calling = asked.calling.follow(wanted, stop)
            if calling is None:
                return None
            return Asked(turns, calls, stop, calling, left.pop_all())

    def _asked(self, turns: Sequence[Turn], stop: Stop, held: Callable[[int], None]) -> Asked:
        with ExitStack() as left, self._on_disk():
            calls, wanted = self._wanted(turns, held, left)
            calling = self._place.runtime.ask(wanted, turns[0].job, stop)
            return Asked(turns, calls, stop, calling, left.pop_all())

    def _wanted(
        self, turns: Sequence[Turn], held: Callable[[int], None], left: ExitStack
    ) -> tuple[list[Call], Calls]:
        kind = find_kind(turns[0].job.kind)
        calls = [call for turn in turns if (call := kind.call(turn.job)) is not None]
        wanted = Calls(
            step=calls[0].step,
            function=calls[0].function,
            jobs=[(turn.job.id, call.args) for turn, call in zip(turns, calls, strict=True)],
            template=left.enter_context(self._template(turns[0].job)),
            folder=self._made(),
            held=held,
        )
        return calls, wanted

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DiskFull(f"work folders in {self._place.folder}: {error.strerror}") from error

    def results(self, asked: Asked) -> Iterator[Result]:
        """As `run`, of what was asked for."""
        with asked.left, self._on_disk():
            called = asked.calling.called()
        kind, facts = find_kind(asked.turns[0].job.kind), dict[str, str]()
        before: Result | None = None
        for turn, each, call in zip(asked.turns, called, asked.calls, strict=False):
            if each.folder is None and each.exit_code == 0:
                facts = facts or self._facts(kind, turn.job)
                before = self._result(kind, turn, each, call, facts, before)
                yield before
            elif each.exit_code == NOT_STARTED:
                yield attempt_job(self._place, turn.job, turn.attempt, asked.stop)
            else:
                yield end_call(self._place, turn.job, turn.attempt, each, call, asked.stop)

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
        self,
        kind: Kind,
        turn: Turn,
        called: Called,
        call: Call,
        facts: Mapping[str, str],
        before: Result | None,
    ) -> Result:
        """before: of the job before it, which has all else in common with this one."""
        job, wall_s = turn.job, called.wall_s
        metrics: Mapping[str, Scalar] = {}
        failure = None
        try:
            if called.returned is not None:
                metrics = kind.returned(job, called.returned)
        except JobError as error:
            failure = Failure(error.reason, str(error), error.step, error.exit_code)
        own: dict[str, Any] = {
            "job_id": job.id,
            "index": job.index,
            "attempt": turn.attempt,
            "state": State.SUCCEEDED if failure is None else State.FAILED,
            "point": job.point,
            "metrics": metrics,
            "failure": failure,
            "started_at": called.started_at,
            "finished_at": called.started_at + wall_s,
            "timings": {"run": round(wall_s, 6)},
        }
        if before is not None:
            return like(before, own)
        worker = self._place.worker
        return Result(study=job.study, final=True, worker=worker, provenance=facts, **own)

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
