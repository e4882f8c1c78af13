"""Cases as researchers have them: run before, with 0.orig, with several ranks, without time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.system import System

pytestmark = pytest.mark.openfoam
CASE = Path(__file__).parents[2] / "examples" / "cavity" / "case"
HEAD = """\
study: of
kind: openfoam
parameters: {nu: [0.01]}
openfoam:
  case: case
"""
FIELDS = "measure: {openfoam: {fields: {p: [max], U: [mean]}}}\n"


@pytest.fixture
def system(tmp_path: Path) -> System:
    shutil.copytree(CASE, tmp_path / "case")
    return System(tmp_path)


def run(system: System, text: str, code: int = 0) -> list[dict[str, Any]]:
    (system.folder / "study.yaml").write_text(text)
    done = system.call("run", "study.yaml")
    assert done.returncode == code, done.stdout + done.stderr
    listed: list[dict[str, Any]] = json.loads(system.ok("results", "--json"))
    return listed


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_what_an_earlier_run_left_changes_nothing(system: System, tmp_path: Path) -> None:
    (fresh,) = run(system, HEAD + FIELDS)
    shutil.rmtree(tmp_path / "runs")
    for name in ("0.3", "10", "1e2"):
        shutil.copytree(CASE / "0", tmp_path / "case" / name)
    (again,) = run(system, HEAD + FIELDS)
    assert (again["p_max"], again["U_mag_mean"]) == (fresh["p_max"], fresh["U_mag_mean"])
    # it is the same study: nothing of the other run has been sent
    assert again["job"] == fresh["job"]


def test_they_are_dropped_by_the_worker_where_the_study_sets_the_start(
    system: System, tmp_path: Path
) -> None:
    shutil.copytree(CASE / "0", tmp_path / "case" / "10")
    edit(tmp_path / "case/system/controlDict", "startTime 0;", "startTime 10;")
    (row,) = run(system, HEAD + "  set: {system/controlDict: {startTime: 0}}\n" + FIELDS)
    assert row["last_time"] == 0.5


def test_a_run_that_starts_at_its_end_has_failed(system: System, tmp_path: Path) -> None:
    shutil.copytree(CASE / "0", tmp_path / "case" / "10")
    section = "  set: {system/controlDict: {startFrom: latestTime}}\n"
    (row,) = run(system, HEAD + section, code=1)
    assert row["reason"] == "prepare"
    assert "starts at time 10 (latestTime) and ends at 0.5" in system.ok("logs", row["job"])


def test_check_tells_of_a_case_that_goes_on(system: System, tmp_path: Path) -> None:
    shutil.copytree(CASE / "0", tmp_path / "case" / "10")
    edit(tmp_path / "case/system/controlDict", "startFrom startTime", "startFrom latestTime")
    (tmp_path / "study.yaml").write_text(HEAD)
    done = system.call("check", "study.yaml")
    assert done.returncode == 0
    assert "goes on from time 10" in done.stdout + done.stderr


@pytest.mark.parametrize("file", ["0/U", "0.orig/U"])
def test_initial_fields_are_made_from_their_originals(
    system: System, tmp_path: Path, file: str
) -> None:
    (tmp_path / "case/0").rename(tmp_path / "case/0.orig")
    section = f"  set: {{{file}: {{boundaryField/movingWall/value: [0.5, 0, 0]}}}}\n"
    measure = "measure: {openfoam: {fields: {U: [max]}}}\n"
    (tmp_path / "study.yaml").write_text(HEAD + section + measure)
    assert system.call("check", "study.yaml").returncode == 0
    (row,) = run(system, HEAD + section + measure)
    assert 0 < row["U_mag_max"] < 0.5


def test_a_misspelt_entry_beside_an_include_is_told_by_check(
    system: System, tmp_path: Path
) -> None:
    path = tmp_path / "case/constant/transportProperties"
    path.with_name("more").write_text("rho 1;\n")
    path.write_text(path.read_text() + '#include "more"\n')
    section = "  set: {constant/transportProperties: {rhoo: 2}}\n"
    (tmp_path / "study.yaml").write_text(HEAD + section)
    done = system.call("check", "study.yaml")
    assert done.returncode == 2
    assert "did you mean 'rho'?" in done.stderr


def test_ranks_are_a_parameter_and_agree(system: System) -> None:
    text = HEAD.replace("{nu: [0.01]}", "{n: [1, 2]}") + '  ranks: "{n}"\n' + FIELDS
    one, two = run(system, text)
    assert (one["n"], two["n"]) == (1, 2)
    assert two["p_max"] == pytest.approx(one["p_max"], rel=1e-3)
    assert two["U_mag_mean"] == pytest.approx(one["U_mag_mean"], rel=1e-3)
    assert "simple (2 1 1)" in system.ok("show", two["job"])


def test_fields_of_a_case_that_stays_in_pieces(system: System) -> None:
    measure = "measure: {openfoam: {fields: {p: [max], U: [mean]}}}\n"
    steps = "  steps: [blockMesh, decomposePar, icoFoam, [echo, done]]\n  ranks: 2\n"
    (whole,) = run(system, HEAD + "  ranks: 2\n" + measure)
    (pieces,) = run(system, HEAD.replace("study: of", "study: pieces") + steps + measure)[-1:]
    assert pieces["p_max"] == whole["p_max"]
    assert pieces["U_mag_mean"] == pytest.approx(whole["U_mag_mean"], rel=1e-12)


def test_a_solver_without_time_is_measured_where_it_began(system: System, tmp_path: Path) -> None:
    solution = tmp_path / "case/system/fvSolution"
    flow = "potentialFlow { nNonOrthogonalCorrectors 0; PhiRefCell 0; PhiRefValue 0; }"
    edit(solution, "PISO", f"{flow}\nPISO")
    edit(solution, "pFinal", "Phi { $p; }\n    pFinal")
    edit(tmp_path / "case/system/controlDict", "application icoFoam", "application potentialFoam")
    (row,) = run(system, HEAD + "measure: {openfoam: {fields: {U: [max]}, time: false}}\n")
    assert row["state"] == "succeeded"
    assert row["U_mag_max"] >= 0


def test_nothing_written_is_not_measured_as_the_start(system: System) -> None:
    section = "  set: {system/controlDict: {writeControl: timeStep, writeInterval: 100000}}\n"
    (row,) = run(system, HEAD + section + FIELDS, code=1)
    assert row["reason"] == "metrics"
    assert "nothing was written after the start" in system.ok("logs", row["job"])


def test_extremes_of_several_fields(system: System, tmp_path: Path) -> None:
    control = tmp_path / "case/system/controlDict"
    control.write_text(
        control.read_text()
        + "functions { range { type fieldMinMax; libs (fieldFunctionObjects); fields (p U); } }\n"
    )
    measure = "measure: {openfoam: {functions: [range], fields: {p: [max], U: [max]}}}\n"
    (row,) = run(system, HEAD + measure)
    assert row["range.p.max"] == pytest.approx(row["p_max"], rel=0.2)
    assert row["range.mag(U).max"] >= row["U_mag_max"]
