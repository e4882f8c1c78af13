"""From where a case can go on, and what its log says of several attempts."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_runner.openfoam import cases
from queue_runner.workers.openfoam import checkpoints, logs


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


@pytest.mark.parametrize(
    ("names", "running", "ended"),
    [
        (["0/U"], None, None),
        (["0/U", "0.1/U"], None, "0.1"),
        (["0/U", "0.1/U", "0.2/U"], "0.1", "0.2"),
        # in the order of time, not of names
        (["0/U", "2/U", "10/U", "9/U"], "9", "10"),
        (["0/U", "1e-05/U", "0.0001/U"], "1e-05", "0.0001"),
        # the slowest piece decides
        (["0/U", *(f"processor0/{t}/U" for t in "0123"), *(f"processor1/{t}/U" for t in "012")],
         "1", "2"),
        (["0/U", "processor0/0/U", "processor1/0/U", "processor0/1/U", "processor1/1/U"], None, "1"),
        (["0/U", *(f"processors2/{t}/U" for t in "0123")], "2", "3"),
        # whole already, and put together
        (["0/U", "2/U", *(f"processor{p}/{t}/U" for p in "01" for t in "012")], "1", "2"),
    ],
)  # fmt: skip
def test_only_a_time_that_all_pieces_have_whole(
    tmp_path: Path, names: list[str], running: str | None, ended: str | None
) -> None:
    case = make(tmp_path, "system/controlDict", *names)
    assert checkpoints.last_complete(case, ended=False) == running
    assert checkpoints.last_complete(case, ended=True) == ended


def test_everything_goes_along_but_later_times_and_links(tmp_path: Path) -> None:
    wanted = [
        "0/U", "0.1/U", "0.1/uniform/time", "constant/polyMesh/points", "log.icoFoam",
        "postProcessing/probes/0/p", "processor0/0.1/U", "system/controlDict",
    ]  # fmt: skip
    case = make(tmp_path / "case", *wanted, "0.2/U", "0.2/uniform/time", "processor0/0.2/U")
    make(tmp_path, "outside/secret")
    (case / "link").symlink_to(tmp_path / "outside/secret")
    (case / "folder").symlink_to(tmp_path / "outside")
    assert checkpoints.files(case, "0.1") == tuple(sorted(wanted))


LOG = """\
Exec   : icoFoam
Time = 0.1
Solving for Ux, Initial residual = 1, Final residual = 0.5, No Iterations 1
ExecutionTime = 10 s  ClockTime = 11 s
Time = 0.2
ExecutionTime = 20 s  ClockTime = 22 s
Time = 0.3
"""


@pytest.mark.parametrize(("time", "last"), [(0.1, "0.1"), (0.2, "0.2"), (0.3, "0.3"), (9.0, "0.3")])
def test_a_log_is_cut_at_the_time_that_is_gone_on_from(
    tmp_path: Path, time: float, last: str
) -> None:
    log = tmp_path / "log"
    log.write_text(LOG)
    checkpoints.cut_log(log, time)
    left = log.read_text()
    assert LOG.startswith(left)
    assert left.count("Time = ") == LOG[: len(left)].count("Time = ")
    assert f"Time = {last}\n" in left
    following = LOG[len(left) :].splitlines()[:1]
    assert following in ([], [f"Time = {float(last) + 0.1:.1f}"])
    checkpoints.cut_log(tmp_path / "nosuch", time)


def test_seconds_are_those_of_all_attempts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    again = "Exec   : icoFoam\nTime = 0.3\nExecutionTime = 5 s  ClockTime = 6 s\n"
    log.write_text(LOG + again + again)
    assert logs.read_log(log, {"time": True, "execution_time": True}) == {
        "last_time": 0.3,
        "execution_time": 30.0,
        "clock_time": 34.0,
    }


@pytest.mark.parametrize(
    ("text", "assigned", "purge", "exact"),
    [
        ("", {}, 0, False),
        ("purgeWrite 1; writeFormat binary;", {}, 1, True),
        ("purgeWrite 1;", {"purgeWrite": 3, "writePrecision": 17}, 3, True),
        ("writePrecision 16;", {}, 0, False),
        ("writePrecision 6;", {"writeFormat": "binary"}, 0, True),
        ("", {"purgeWrite": "{n}"}, None, False),
    ],
)
def test_how_a_case_writes(
    tmp_path: Path, text: str, assigned: dict[str, object], purge: int | None, exact: bool
) -> None:
    (make(tmp_path, cases.CONTROL) / cases.CONTROL).write_text(text)
    assert cases.writing(tmp_path, assigned) == cases.Writing(purge, exact)
