"""Which marks of a job's way belong together, and what its legs come to."""

from __future__ import annotations

from pathlib import Path

import pytest
from measure.legs import BESIDE, WAY, Leg, is_over, jobs, medians_ms, points
from measure.marks import Mark, Marks, read

_SENT, _DONE = "it is sent", "it is done"
_A_WAY = (Leg("submit", "leased", _SENT), Leg("leased", "known", _DONE))


def _job(begun: float, sent: float, done: float) -> list[Mark]:
    return [("submit", begun), ("leased", begun + sent), ("known", begun + sent + done)]


def test_legs_are_medians_in_milliseconds_over_all_jobs() -> None:
    marks = _job(1.0, 0.001, 0.010) + _job(2.0, 0.002, 0.020) + _job(3.0, 0.009, 0.030)
    found = medians_ms(marks, _A_WAY, ())
    assert found == pytest.approx({_SENT: 2.0, _DONE: 20.0, "all": 22.0})


def test_marks_of_several_processes_are_put_in_order() -> None:
    marks = [("known", 1.3), ("submit", 2.0), ("leased", 1.1), ("submit", 1.0), ("leased", 2.1)]
    first, second = jobs(marks, "submit")
    assert first == [("submit", 1.0), ("leased", 1.1), ("known", 1.3)]
    assert second == [("submit", 2.0), ("leased", 2.1)]


def test_what_was_marked_before_the_first_job_is_nobodys() -> None:
    assert list(jobs([("leased", 0.5), ("submit", 1.0)], "submit")) == [[("submit", 1.0)]]


def test_a_point_is_passed_after_the_point_before_it() -> None:
    job = [("known", 1.05), *_job(1.0, 0.1, 0.1), ("known", 9.0)]
    found = points(sorted(job, key=lambda mark: mark[1]), _A_WAY)
    assert found == pytest.approx({"submit": 1.0, "leased": 1.1, "known": 1.2})


def test_a_job_that_missed_a_point_counts_for_none() -> None:
    marks = [*_job(1.0, 0.001, 0.001), ("submit", 2.0), ("known", 2.5)]
    assert medians_ms(marks, _A_WAY, ())["all"] == pytest.approx(2.0)
    with pytest.raises(ValueError, match="no job came past all points"):
        medians_ms([("submit", 2.0)], _A_WAY, ())


def test_what_is_beside_the_way_begins_with_one_of_its_points_or_with_another_mark() -> None:
    beside = (Leg("leased", "settled", "settling"), Leg("settled", "flushed", "flushing"))
    marks = [*_job(1.0, 0.1, 0.1), ("settled", 1.15), ("flushed", 1.175)]
    found = medians_ms(marks, _A_WAY, beside)
    assert found["settling"] == pytest.approx(50.0)
    assert found["flushing"] == pytest.approx(25.0)


def test_what_is_beside_the_way_may_end_when_the_next_job_is_on_its_way() -> None:
    beside = (Leg("known", "flushed", "flushing"),)
    marks = [*_job(1.0, 0.1, 0.1), *_job(1.3, 0.1, 0.1), *_job(1.6, 0.1, 0.1), ("flushed", 1.7)]
    # of the third nobody knows
    assert medians_ms(marks, _A_WAY, beside)["flushing"] == pytest.approx(350.0)


def test_it_is_over_when_what_is_beside_the_last_way_has_ended() -> None:
    beside = (Leg("leased", "settled", "it is settled"),)
    first, last = _job(1.0, 0.1, 0.1), _job(2.0, 0.1, 0.1)
    assert not is_over([*first, ("settled", 1.3), *last], _A_WAY, beside)
    assert not is_over([*first, *last, ("settled", 2.05)], _A_WAY, beside)
    assert is_over([*first, *last, ("settled", 2.3)], _A_WAY, beside)


def test_the_way_has_no_gap() -> None:
    assert [leg.end for leg in WAY[:-1]] == [leg.begin for leg in WAY[1:]]
    assert len({leg.what for leg in (*WAY, *BESIDE)}) == len(WAY) + len(BESIDE)


def test_calls_are_marked_before_they_begin_and_after_they_return(tmp_path: Path) -> None:
    class Owner:
        def double(self, number: int) -> int:
            return 2 * number

    marks = Marks(tmp_path / "marks")
    marks.before(Owner, "double", "begins", lambda _, number: number > 1)
    marks.after(Owner, "double", "ends")
    assert [Owner().double(number) for number in (1, 2)] == [2, 4]
    marks.add("told", 0.25)
    found = list(read(tmp_path / "marks"))
    assert [name for name, _ in found] == ["ends", "begins", "ends", "told"]
    assert found[-1] == ("told", 0.25)
