"""Which result of a job is final: whatever the order and the number of deliveries, the same one."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from queue_runner.collector.rules import Stored, Verdict, judge
from queue_runner.model import Result, State


def result(attempt: int, state: State, worker: str = "w", *, final: bool = True) -> Result:
    return Result("s.0000000", "s", 0, attempt, state, final, {}, worker=worker)


def stored_after(results: list[Result]) -> Stored | None:
    stored = None
    for each in results:
        if judge(stored, each) is Verdict.FINAL:
            stored = Stored(each.attempt, each.state, each.worker)
    return stored


# one worker holds one attempt, and reports it in one way
attempts = st.lists(
    st.builds(
        result,
        st.integers(1, 5),
        st.sampled_from([State.SUCCEEDED, State.FAILED]),
        st.sampled_from("ab"),
        final=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda each: (each.attempt, each.worker),
)


@given(attempts, st.randoms(use_true_random=False))
def test_the_state_depends_on_neither_order_nor_repetition(
    results: list[Result], chance: random.Random
) -> None:
    once = stored_after(results)
    again = results * 2
    chance.shuffle(again)
    other = stored_after(again)
    assert (once is None) == (other is None)
    if once is not None and other is not None:
        assert once.state == other.state
        if once.state is State.FAILED:
            assert once.attempt == other.attempt == max(r.attempt for r in results if r.final)


@given(attempts)
def test_a_success_stays(results: list[Result]) -> None:
    first = next((r for r in results if r.final and r.state is State.SUCCEEDED), None)
    if first is not None:
        kept = stored_after(results)
        assert kept is not None
        assert kept.state is State.SUCCEEDED


def test_a_late_failure_of_an_earlier_attempt_is_history() -> None:
    stored = Stored(2, State.FAILED, "b")
    assert judge(stored, result(1, State.FAILED, "a")) is Verdict.HISTORY
    assert judge(stored, result(1, State.SUCCEEDED, "a")) is Verdict.FINAL
    assert judge(stored, result(3, State.SUCCEEDED, "a")) is Verdict.FINAL


def test_a_cancel_is_final_until_retried() -> None:
    stored = Stored(1, State.CANCELLED, "")
    assert judge(stored, result(1, State.SUCCEEDED)) is Verdict.HISTORY


def test_the_same_again_changes_nothing() -> None:
    assert judge(Stored(1, State.SUCCEEDED, "w"), result(1, State.SUCCEEDED)) is Verdict.DUPLICATE


def test_what_is_not_final_is_history() -> None:
    assert judge(None, result(1, State.FAILED, final=False)) is Verdict.HISTORY
