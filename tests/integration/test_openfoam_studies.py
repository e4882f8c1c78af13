"""OpenFOAM studies beyond the examples: function objects, includes, failures, steps of one's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.system import System

CASE = Path(__file__).parents[2] / "examples" / "cavity" / "case"
HEAD = """\
study: of
kind: openfoam
parameters: {nu: [0.01]}
openfoam:
  case: case
"""
FUNCTIONS = """
functions
{
    points
    {
        type probes; libs (sampling); fields (p U);
        probeLocations ((0.05 0.05 0.005) (0.02 0.08 0.005));
    }
    drag { type forces; libs (forces); patches (movingWall); rho rhoInf; rhoInf 1; CofR (0 0 0); }
    range { type fieldMinMax; libs (fieldFunctionObjects); fields (p); writeControl timeStep; }
}
"""


@pytest.fixture
def system(tmp_path: Path) -> System:
    shutil.copytree(CASE, tmp_path / "case")
    return System(tmp_path)


def rows(system: System, text: str, code: int = 0) -> list[dict[str, Any]]:
    (system.folder / "study.yaml").write_text(text)
    done = system.call("run", "study.yaml")
    assert done.returncode == code, done.stdout + done.stderr
    listed: list[dict[str, Any]] = json.loads(system.ok("results", "--json"))
    return listed


def test_function_objects(system: System) -> None:
    control = system.folder / "case" / "system" / "controlDict"
    control.write_text(control.read_text() + FUNCTIONS)
    measure = "measure: {openfoam: {functions: [points, drag, range]}}\n"
    (row,) = rows(system, HEAD + measure)
    assert isinstance(row["points.p.0"], float)
    assert isinstance(row["points.U.1.y"], float)
    # the fluid holds the lid back
    assert row["drag.force.total_x"] < 0
    assert any(name.startswith("range.") for name in row)


def test_a_case_without_a_solver_has_no_residuals(system: System) -> None:
    (row,) = rows(system, HEAD + "  steps: [blockMesh, checkMesh]\n")
    assert row["state"] == "succeeded"
    assert "residual_Ux" not in row


def test_an_entry_that_an_include_brings_in(system: System) -> None:
    transport = system.folder / "case" / "constant" / "transportProperties"
    (transport.parent / "viscosity").write_text(transport.read_text().split("}", 1)[1])
    transport.write_text(transport.read_text().split("}", 1)[0] + '}\n#include "viscosity"\n')
    section = '  set: {constant/transportProperties: {nu: "[0 2 -1 0 0 0 0] {nu}"}}\n'
    found = rows(system, HEAD.replace("[0.01]", "[0.01, 0.1]") + section)
    assert found[0]["residual_Ux"] != found[1]["residual_Ux"]


def test_steps_of_ones_own_and_two_ranks(system: System) -> None:
    section = "  steps: [blockMesh, [checkMesh, -constant], icoFoam]\n  ranks: 2\n"
    (row,) = rows(system, HEAD + section + "keep: ['log.*', '0.5/*']\n")
    assert row["last_time"] == 0.5
    assert "Mesh OK" in system.ok("logs", row["job"], "--full")
    assert "End" in system.ok("logs", row["job"])


@pytest.mark.parametrize(
    ("change", "reason", "text"),
    [
        (("system/fvSolution", "PISO", "PISA"), "prepare", "PISO"),
        (("system/controlDict", "application icoFoam", "application icoFome"), "missing-program", "icoFome"),
        (("0/U", "(1 0 0)", "(1e200 0 0)"), "diverged", "floating point exception"),
    ],
)  # fmt: skip
def test_cases_that_fail_say_why(
    system: System, change: tuple[str, str, str], reason: str, text: str
) -> None:
    path = system.folder / "case" / change[0]
    assert change[1] in path.read_text()
    path.write_text(path.read_text().replace(change[1], change[2]))
    (row,) = rows(system, HEAD, code=1)
    assert row["reason"] == reason
    log = system.ok("logs", row["job"])
    assert text in log
    # what OpenFOAM says of an environment that is not about its folder, and last
    assert "PWD" not in log


def test_a_field_that_is_not_there_is_named(system: System) -> None:
    (row,) = rows(system, HEAD + "measure: {openfoam: {fields: {T: [max]}}}\n", code=1)
    assert row["reason"] == "metrics"
    assert "T" in system.ok("logs", row["job"])


def test_a_misspelt_entry_is_told_before_anything_runs(system: System) -> None:
    text = HEAD + '  set: {constant/transportProperties: {nuu: "{nu}"}}\n'
    (system.folder / "study.yaml").write_text(text)
    done = system.call("check", "study.yaml")
    assert done.returncode == 2
    assert "study.yaml:6: openfoam.set.constant/transportProperties.nuu" in done.stderr
    assert "did you mean 'nu'?" in done.stderr
