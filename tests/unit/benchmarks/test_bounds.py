"""What the benchmark makes of its figures: rows of yes and no, tables, a page with both."""

from __future__ import annotations

from pathlib import Path

import pytest
from measure.bounds import Bound, judge
from measure.catalogue import NoSuch, choose
from measure.guard import MARGINS, judged
from measure.record import Failed, Measured, Record
from measure.report import put_into, write_table

_MACHINE = {
    "cores": 2, "cpu": "one", "memory_gib": 4, "system": "Debian", "kernel": "6", "python": "3.11",
}  # fmt: skip


def record(*rows: tuple[str, str, str, list[float]]) -> Record:
    """A figure of each round for each (workload, contender, figure)."""
    measured = [
        Measured(workload, contender, number, {"count": 1, figure: value})
        for workload, contender, figure, values in rows
        for number, value in enumerate(values, 1)
    ]
    return Record(machine=_MACHINE, measured=measured)


def row(bounds: list[Bound], start: str) -> Bound:
    return next(bound for bound in bounds if bound.what.startswith(start))


def test_the_best_peer_on_the_same_broker_counts() -> None:
    bounds = judge(
        record(
            ("noop", "queue-runner/redis", "per_s", [1000, 1100]),
            ("noop", "celery/redis", "per_s", [100, 110]),
            ("noop", "dramatiq/redis", "per_s", [200, 220]),
            ("noop", "taskiq/rabbitmq", "per_s", [900, 900]),
        )
    )
    found = row(bounds, "noop, redis")
    assert (found.whose, found.ratio, found.holds) == ("dramatiq/redis", 5.0, True)


def test_who_acknowledges_before_the_work_is_compared_apart() -> None:
    bounds = judge(
        record(
            ("noop", "queue-runner/redis", "per_s", [1000]),
            ("noop", "rq/redis", "per_s", [100]),
            ("noop", "huey/redis", "per_s", [500]),
        )
    )
    after, anyone = (bound for bound in bounds if bound.what.startswith("noop, redis"))
    assert (after.whose, after.holds) == ("rq/redis", True)
    assert (anyone.whose, anyone.holds) == ("huey/redis", False)


def test_rounds_are_compared_with_each_other_and_not_with_others() -> None:
    """The machine was half as fast in the second round, for both."""
    bounds = judge(
        record(
            ("sweep", "queue-runner/zeromq", "per_s", [10.0, 5.0, 10.0]),
            ("sweep", "parallel", "per_s", [10.0, 5.0, 20.0]),
        )
    )
    found = row(bounds, "sweep, zeromq")
    assert found.ratio == 1.0
    assert found.holds is True


def test_the_lowest_latency_is_the_best() -> None:
    bounds = judge(
        record(
            ("latency", "queue-runner/redis", "p50_ms", [3.0]),
            ("latency", "celery/redis", "p50_ms", [4.0]),
            ("latency", "dask", "p50_ms", [2.0]),
        )
    )
    found = row(bounds, "latency, redis: p50")
    assert (found.whose, found.ratio, found.holds) == ("dask", 1.5, False)


def test_targets_are_held_against_medians() -> None:
    bounds = judge(record(("startup", "queue-runner/program", "help_ms", [100.0, 140.0, 300.0])))
    found = row(bounds, "start-up: queue-runner --help")
    assert (found.figure, found.against, found.holds) == (140.0, 150.0, True)


def test_what_was_not_measured_neither_holds_nor_fails() -> None:
    bounds = judge(record(("noop", "queue-runner/redis", "per_s", [1000])))
    assert all(bound.holds is None for bound in bounds)


def test_the_tables_show_figures_remarks_bounds_and_failures() -> None:
    told = record(
        ("noop", "queue-runner/redis", "per_s", [1234.0, 1300.0]),
        ("noop", "huey/redis", "per_s", [500.0, 510.0]),
    )
    told.failed.append(Failed("noop", "dask", 2, "no scheduler\nand a long log"))
    table = write_table(told, judge(told))
    assert "| **queue-runner/redis** | 1,267 | 1,234 to 1,300 (3%) |  |" in table
    assert "acknowledges before the work" in table
    assert "| noop, redis: best peer on it, any | 1,267/s | 505/s | huey/redis |" in table
    assert "- dask, noop, round 2: no scheduler\n" in table


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    told = record(("noop", "dask", "per_s", [1.5]))
    told.write(tmp_path / "result.json", bounds=[])
    assert Record.read(tmp_path / "result.json") == told


def test_tables_replace_what_stands_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    put_into(page, "new\n")
    assert page.read_text() == "before\n<!-- bench -->\nnew\n<!-- /bench -->\nafter\n"
    page.write_text("no marks\n")
    with pytest.raises(ValueError, match="has no <!-- bench -->"):
        put_into(page, "new\n")


def test_contenders_are_chosen_by_name_or_by_what_is_before_the_slash() -> None:
    chosen = choose(["noop", "true"], ["celery", "queue-runner/redis", "parallel"])
    assert [(entry.name, its) for entry, its in chosen] == [
        ("queue-runner/redis", ["noop", "true"]),
        ("celery/redis", ["noop", "true"]),
        ("celery/rabbitmq", ["noop", "true"]),
        ("parallel", ["true"]),
    ]


@pytest.mark.parametrize(("workloads", "only"), [(["nope"], []), (["noop"], ["nope"])])
def test_a_name_that_is_none_is_answered_with_those_that_are(
    workloads: list[str], only: list[str]
) -> None:
    with pytest.raises(NoSuch, match="'nope' is none of"):
        choose(workloads, only)


def guarded(value: float) -> Record:
    """Every figure that the guard looks at, ours `value` times the limit's."""
    rows = {}
    for margin in MARGINS:
        rows[margin.limit] = [1.0, 1.0]
        rows[margin.ours] = [1e-9 if margin.least else 1e9, value]
    return record(*((each.workload, each.contender, each.name, v) for each, v in rows.items()))


def test_the_guard_lets_one_bad_round_pass() -> None:
    assert all(held for _, held in judged(guarded(1.0)))


def test_the_guard_sees_what_is_far_off_or_missing() -> None:
    for told in (guarded(1e-9), Record()):
        held = [
            held for (_, held), margin in zip(judged(told), MARGINS, strict=True) if margin.least
        ]
        assert held
        assert not any(held)
