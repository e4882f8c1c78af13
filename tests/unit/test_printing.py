"""What jobs and messages hold does nothing to the terminal, and forges no line of a log."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from queue_runner.cli import render
from queue_runner.cli.app import say
from queue_runner.cli.daemons import LogLevel, start_logging
from queue_runner.model import Failure, Result, State, WorkerStatus
from queue_runner.printing import Seldom, one_line, printable
from queue_runner.tables import Row, flatten

CLEAR = "\x1b[2J\x1b]0;title\x07"
BAD = f"a{CLEAR}\r\u202eb[/red]\x9b1m"


def _shown(what: object) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=300, markup=False, color_system=None)
    console.print(what)
    return out.getvalue()


def _result() -> Result:
    return Result(
        "s.1", "s", 0, 1, State.FAILED, True, {"x": BAD}, metrics={BAD: 1.0, "y": BAD},
        failure=Failure(f"reason{CLEAR}", BAD), log_tail=f"line\n{BAD}",
    )  # fmt: skip


def test_what_cannot_be_printed_is_escaped() -> None:
    assert printable("Größe\n\tµ") == "Größe\n\tµ"
    assert printable(BAD).isprintable()
    assert printable("\x1b[2J") == r"\x1b[2J"
    assert one_line("a\nb\tc") == r"a\nb\tc"
    assert printable("x" * 50, 10) == "xxxxxxx..."


@pytest.mark.parametrize("what", ["results", "failures", "workers"])
def test_tables_hold_no_escape(what: str) -> None:
    worker = WorkerStatus(BAD, BAD, BAD, (BAD,), 1, 1, (), BAD, 1.0)
    parts = {
        "results": [render.results_table([flatten(_result(), ["x"])])],
        "failures": list(render.failures([_result()], 1, more="")),
        "workers": [render.workers_table([worker])],
    }[what]
    shown = "".join(map(_shown, parts))
    assert r"\x1b[2J" in shown
    assert shown.replace("\n", "").isprintable()


@pytest.mark.parametrize(("left", "said"), [(1, "1 more row"), (2, "2 more rows")])
def test_how_many_rows_a_table_leaves_out(left: int, said: str) -> None:
    rows: list[Row] = [{"x": number} for number in range(1 + left)]
    assert render.results_table(rows, limit=1).caption == said


def test_a_line_of_the_program_holds_no_escape(capsys: pytest.CaptureFixture[str]) -> None:
    say(BAD)
    assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_a_message_forges_no_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        start_logging(LogLevel.INFO)
        logging.getLogger("queue_runner").error("bad: %s", f"x\n2026-01-01 INFO all is well{BAD}")
    finally:
        root.handlers = before
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("    2026")
    assert all(line.isprintable() for line in lines)


def test_what_others_cause_again_and_again_is_said_seldom() -> None:
    seldom = Seldom(pause_s=60.0)
    assert [seldom.due("a"), seldom.due("a"), seldom.due("b")] == [True, False, True]
    assert Seldom(pause_s=0.0).due("a")
    for number in range(5000):
        seldom.due(str(number))
    assert len(seldom._said) <= 1000
