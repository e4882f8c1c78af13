"""What the solvers of OpenFOAM print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from queue_runner.errors import JobError
from queue_runner.workers.openfoam import logs

SOLVED = (
    "Time = 5s\n\n"
    "smoothSolver:  Solving for Ux, Initial residual = 0.1, Final residual = 1e-6, No Iterations 3\n"
)
ALL = {"residuals": True, "time": True, "execution_time": True}
OPTIONAL = {**ALL, "optional": list(ALL)}


def read(folder: Path, text: str, asked: dict[str, Any]) -> dict[str, object]:
    (folder / "log").write_text(text)
    return dict(logs.read_log(folder / "log", asked))


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ("ExecutionTime = 1.5 s  ClockTime = 2 s", {"execution_time": 1.5, "clock_time": 2}),
        ("ExecutionTime = 1.5 s", {"execution_time": 1.5}),
        ("ExecutionTime = 01:00:02  ClockTime = 3700 s", {"execution_time": 3602, "clock_time": 3700}),
    ],
)  # fmt: skip
def test_metrics(tmp_path: Path, clock: str, expected: dict[str, float]) -> None:
    found = read(tmp_path, f"{SOLVED}{clock}\n", ALL)
    assert found == {"residual_Ux": 1e-6, "last_time": 5, **expected}


def test_what_the_log_does_not_have_is_missed_where_it_was_asked_for(tmp_path: Path) -> None:
    assert read(tmp_path, SOLVED, OPTIONAL) == {"residual_Ux": 1e-6, "last_time": 5}
    asked = {**ALL, "optional": ["residuals", "time"]}
    with pytest.raises(JobError, match="shows no execution time"):
        read(tmp_path, SOLVED, asked)


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    assert logs.read_log(tmp_path / "none", OPTIONAL) == {}
    with pytest.raises(JobError, match="cannot be read"):
        logs.read_log(tmp_path / "none", ALL)


@pytest.mark.parametrize("steps", [10, 500, 3000])
def test_a_log_longer_than_what_is_read_at_once(tmp_path: Path, steps: int) -> None:
    text = "".join(
        f"Time = {number}\n\n"
        f"solver:  Solving for Ux, Initial residual = 1, Final residual = {number}e-9, No\n"
        f"{'x' * (number % 97)}\nExecutionTime = {number} s  ClockTime = {2 * number} s\n"
        for number in range(1, steps + 1)
    )
    assert read(tmp_path, f"Exec   : solver\n{text}", ALL) == {
        "residual_Ux": pytest.approx(steps * 1e-9),
        "last_time": steps,
        "execution_time": steps,
        "clock_time": 2 * steps,
    }


def test_times_of_programs_that_went_on_are_added_up(tmp_path: Path) -> None:
    first = "Exec   : solver\nTime = 1\nExecutionTime = 2 s\nTime = 2\nExecutionTime = 3 s\n"
    again = "Exec   : solver -latest\nTime = 3\nExecutionTime = 1.5 s\n"
    found = read(tmp_path, first + again, {"time": True, "execution_time": True})
    assert found == {"last_time": 3, "execution_time": 4.5}


def test_whether_a_solver_went_through_time(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert not logs.took_a_step(path)
    path.write_text("Create time\n\nEnd\n")
    assert not logs.took_a_step(path)
    path.write_text("Create time\n\nTime = 0.005\n")
    assert logs.took_a_step(path)


@pytest.mark.parametrize(
    ("tail", "reason", "message"),
    [
        (
            "--> FOAM FATAL ERROR: \ncannot find patch\n  of the case\n\n    From function x\n"
            "    in file y.C at line 3\n\nFOAM exiting\n",
            "exit-code",
            "icoFoam stopped: cannot find patch of the case",
        ),
        (
            "[1] --> FOAM FATAL IO ERROR: \n[1] cannot open FOLDER/0/U\n[1] \n[1]     From function x\n",
            "exit-code",
            "icoFoam stopped: cannot open 0/U",
        ),
        (
            "--> FOAM FATAL IO ERROR: \nEntry 'nu' not found in dictionary \"FOLDER/constant/t\"\n",
            "prepare",
            "icoFoam stopped: keyword nu is undefined in constant/t",
        ),
        (
            '--> FOAM FATAL ERROR: \n"FOLDER/system/blockMeshDict"\n\n    From function main\n',
            "exit-code",
            'icoFoam stopped: there is no "system/blockMeshDict"',
        ),
        ("#1 Foam::sigFpe::sigHandler(int)\n", "diverged", "floating point exception"),
        (
            '--> FOAM FATAL ERROR: \nCannot find file "points" in directory "polyMesh"\n',
            "exit-code",
            "the case has no mesh: name the program that makes it in `steps`",
        ),
        (
            "Decomposition method scotch\n--> FOAM FATAL ERROR: \nThis is a dummy\n    From x\n",
            "exit-code",
            "only a stub of scotch",
        ),
    ],
)
def test_why_a_program_stopped(tmp_path: Path, tail: str, reason: str, message: str) -> None:
    found = logs.diagnose("icoFoam", tail.replace("FOLDER", str(tmp_path)), tmp_path)
    assert found is not None
    assert found.reason == reason
    assert message in found.message
    assert "From function" not in found.message


def test_a_log_without_an_error_says_nothing(tmp_path: Path) -> None:
    text = "trapFpe: Floating point exception trapping enabled (FOAM_SIGFPE).\nEnd\n"
    assert logs.diagnose("icoFoam", text, tmp_path) is None
    assert logs.not_a_number("icoFoam", SOLVED) is None


@pytest.mark.parametrize("value", ["nan", "-nan", "inf"])
def test_a_last_residual_that_is_no_number(value: str) -> None:
    found = logs.not_a_number("icoFoam", SOLVED + SOLVED.replace("1e-6", value))
    assert found is not None
    assert found.reason == "diverged"
