"""What a case says of its run: the application, its start and end, and what an earlier run left."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_runner.openfoam import cases

HEAD = "FoamFile { version 2.0; format ascii; class dictionary; object controlDict; }\n"


def case(folder: Path, text: str, times: tuple[str, ...] = ("0",)) -> Path:
    (folder / "system").mkdir()
    (folder / "system/controlDict").write_text(HEAD + text + "\n")
    for name in times:
        (folder / name).mkdir()
    return folder


@pytest.mark.parametrize(
    ("text", "application"),
    [
        ("application icoFoam;", "icoFoam"),
        ('application "icoFoam";', "icoFoam"),
        ("app icoFoam; application $app;", "icoFoam"),
        ("application $app;", None),
        ("endTime 1;", None),
    ],
)
def test_the_application(tmp_path: Path, text: str, application: str | None) -> None:
    assert cases.control(case(tmp_path, text)).application == application


def test_the_application_of_an_include(tmp_path: Path) -> None:
    made = case(tmp_path, '#include "app"')
    (made / "system/app").write_text("application pisoFoam;\n")
    assert cases.control(made).application == "pisoFoam"


def test_plain_entries_are_read_from_what_foamlib_does_not_know(tmp_path: Path) -> None:
    text = """
application pisoFoam; // application other;
/* startFrom latestTime; */
startFrom startTime;
startTime 0;
stopAt endTime;
endTime 1.5e+1;
deltaT #eval{ 1/3 };
code #{ if (x) { application wrong; } #};
functions { a { application inner; } { endTime 3; } }
name "}; application quoted;";
"""
    assert cases.control(case(tmp_path, text)) == cases.Control("pisoFoam", "startTime", 0, 15)


@pytest.mark.parametrize(
    ("text", "start", "leftovers"),
    [
        ("startFrom startTime; startTime 0;", 0, ["0.5", "1e+1", "100"]),
        ("startFrom startTime; startTime 0.5;", 0.5, ["1e+1", "100"]),
        ("startFrom firstTime;", 0, ["0.5", "1e+1", "100"]),
        ("startFrom latestTime;", 100, []),
        ("endTime 3;", 100, []),
        ("startFrom startTime; startTime $begin;", None, []),
    ],
)
def test_what_an_earlier_run_left(
    tmp_path: Path, text: str, start: float | None, leftovers: list[str]
) -> None:
    made = case(tmp_path, text, ("100", "0", "1e+1", "0.5", "0.orig", "constant", "nan"))
    said = cases.control(made)
    assert cases.start(made, said) == start
    assert cases.leftovers(made, said) == leftovers


def test_times_are_folders_with_numbers_in_the_order_of_numbers(tmp_path: Path) -> None:
    made = case(tmp_path, "", ("10", "9", "-1", "0.orig", "inf", "1e-05"))
    (made / "11").write_text("a file")
    assert list(cases.times(made)) == ["-1", "1e-05", "9", "10"]


def test_an_end_that_is_not_the_end_time_is_not_known(tmp_path: Path) -> None:
    assert cases.control(case(tmp_path, "stopAt writeNow; endTime 3;")).end_time is None
