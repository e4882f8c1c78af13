"""Which result of a job is its final one. Pure decisions; the database keeps what they say.

- The first success to arrive is final and stays: whatever comes later is history.
- A final failure is replaced by a success, for the job did succeed, and by the failure of a *higher*
  attempt, never by that of an earlier one which reports late (its lease was lost, and somebody else was
  asked). So the outcome depends neither on the order of the deliveries nor on their number.
- A cancel is final until the job is retried; a result that was on its way is history.
- A result that is not final (another attempt follows) is history.
- The same result again changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from queue_runner.model import Result, State


class Verdict(Enum):
    FINAL = auto()  # becomes the job's final result
    HISTORY = auto()  # is kept among the job's attempts
    DUPLICATE = auto()  # is the stored final result, delivered again


@dataclass(frozen=True, slots=True)
class Stored:
    """The final result that a job has so far; `worker` is empty where a request cancelled it."""

    attempt: int
    state: State
    worker: str


def judge(stored: Stored | None, result: Result) -> Verdict:
    if not result.final:
        return Verdict.HISTORY
    if stored is None:
        return Verdict.FINAL
    if (stored.attempt, stored.state, stored.worker) == (
        result.attempt,
        result.state,
        result.worker,
    ):
        return Verdict.DUPLICATE
    if stored.state is State.FAILED:
        better = result.state is State.SUCCEEDED or result.attempt > stored.attempt
        return Verdict.FINAL if better else Verdict.HISTORY
    return Verdict.HISTORY
