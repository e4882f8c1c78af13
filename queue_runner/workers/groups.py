"""Running what the slots give: one job, or a group of short ones that one process does one after another."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from queue_runner.errors import (
    DiskFull,
    EngineUnavailable,
    JobError,
    StoreRefused,
    StoreUnavailable,
)
from queue_runner.model import Result
from queue_runner.workers.attempt import attempt_job
from queue_runner.workers.calls import Asked, CallLane, Turn
from queue_runner.workers.claims import Claim, Claims
from queue_runner.workers.endings import Endings
from queue_runner.workers.runtimes.base import Stop, Stopped
from queue_runner.workers.slots import Slots
from queue_runner.workers.workplace import Workplace

log = logging.getLogger("queue_runner.worker")

#: Seconds before a job whose bundle could not be fetched is offered again, to anyone.
_STORE_AWAY_S = 10.0


@dataclass(slots=True)
class _Group:
    """Claims that run one after another, which one `Stop` ends.

    asked: what their process has been asked for already; behind: those that it has been asked for next.
    """

    claims: list[Claim]
    stop: Stop
    asked: Asked | None = None
    behind: _Group | None = None


class Groups:
    """`run` in two threads for each core, until the slots are closed: one job may run while what another one
    wrote is kept.
    """

    def __init__(
        self, place: Workplace, lane: CallLane, slots: Slots, claims: Claims, endings: Endings
    ) -> None:
        self._place, self._lane = place, lane
        self._slots, self._claims, self._endings = slots, claims, endings

    def run(self) -> None:
        while claims := self._slots.take():
            first, took_s = claims[0], 0.0
            group: _Group | None = _Group(claims, self._claims.start(claims))
            try:
                while group is not None:
                    took_s = self._run_group(group) or took_s
                    self._slots.took(took_s)
                    group = group.behind
            finally:
                self._slots.free(first)

    def _run_group(self, group: _Group) -> float:
        """Seconds that each took; 0 where all have been put off."""
        started = time.monotonic()
        try:
            self._run_some(group)
        finally:
            self._claims.finish(group.claims)
            group.stop.close()
        return (time.monotonic() - started) / len(group.claims) if group.claims else 0.0

    def _run_some(self, group: _Group) -> None:
        """Those that have to wait for one that takes long are put off, and are in `claims` no more."""
        claims, stop, done = group.claims, group.stop, 0
        while group.asked is not None or (done < len(claims) and not stop.thrown):
            done += self._attempt(group, done)
            if group.behind is not None and not stop.thrown:
                # their process is busy with the next ones
                self._put_behind(group, done)
        for claim in claims[done:]:
            self._endings.stopped(claim)

    def _put_behind(self, group: _Group, first: int) -> None:
        """What is left of a group gets its turn after those that are behind it."""
        assert group.behind is not None
        left = group.claims[first:]
        del group.claims[first:]
        if left:
            group.behind.behind = _Group(left, self._claims.start(left))

    def _attempt(self, group: _Group, first: int) -> int:
        """Attempt claims that have a lane in common, or one; returns how many have been dealt with."""
        claims, done = group.claims, first
        try:
            for result in self._results(group, first):
                self._endings.finished(claims[done], result)
                done += 1
        except Stopped:
            return done - first
        except (StoreUnavailable, StoreRefused, EngineUnavailable, DiskFull) as error:
            # nothing is wrong with the job
            log.warning("%s is given back: %s", claims[done].job.id, error)
            self._endings.drop_or_give_back(claims[done], delay_s=_STORE_AWAY_S)
            return done + 1 - first
        return done - first

    def _results(self, group: _Group, first: int) -> Iterator[Result]:
        claims = group.claims[first:]
        if group.asked is not None:
            asked, group.asked = group.asked, None
            self._ask_ahead(group, asked)
            yield from self._lane.results(asked)
        elif claims[0].lane is not None and self._lane.takes(claims[0].job, len(claims)):
            yield from self._lane.run(
                _turns(claims),
                group.stop,
                self._held(group, first),
                lambda asked: self._ask_ahead(group, asked),
            )
        else:
            claim = claims[0]
            yield attempt_job(
                self._place,
                claim.job,
                claim.delivery.attempt,
                group.stop,
                lambda: self._work_is_over(claim),
            )

    def _work_is_over(self, claim: Claim) -> None:
        if claim.lane is None:
            # others may have its place after it that were taken with it
            self._slots.work_is_over(claim)

    def _ask_ahead(self, group: _Group, asked: Asked) -> None:
        """Let the process that has been asked know what is next, so that it need not wait for this one."""
        if group.stop.thrown or not group.claims:
            return
        if group.behind is None and (claims := self._slots.take_behind(group.claims[0])):
            group.behind = _Group(claims, self._claims.start(claims))
        behind = group.behind
        if behind is None or behind.stop.thrown:
            return
        turns, held = _turns(behind.claims), self._held(behind, 0)
        try:
            behind.asked = self._lane.follow(asked, turns, behind.stop, held)
        except (JobError, StoreUnavailable, StoreRefused, DiskFull) as error:
            # it is asked for again when it is its turn, and then it is told whose trouble it is
            log.debug("%s is not asked for ahead: %s", behind.claims[0].job.id, error)

    def _held(self, group: _Group, first: int) -> Callable[[int], None]:
        def held(begun: int) -> None:
            late = group.claims[first + begun :]
            del group.claims[first + begun :]
            self._claims.put_off(late)
            if not self._slots.put(late):
                self._endings.give_back(late, delay_s=0.0)

        return held


def _turns(claims: Sequence[Claim]) -> list[Turn]:
    return [Turn(claim.job, claim.delivery.attempt) for claim in claims]
