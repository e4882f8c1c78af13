"""A case's Allrun, with RunFunctions of our own: Debian's OpenFOAM comes without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.system import System

pytestmark = pytest.mark.openfoam
CASE = Path(__file__).parents[2] / "examples" / "cavity" / "case"
STUDY = """\
study: of
kind: openfoam
parameters: {nu: [0.01, 0.02]}
openfoam:
  case: case
  set: {constant/transportProperties: {nu: "{nu}"}}
measure: {openfoam: {residuals: true, fields: {p: [max]}}}
"""
#: What the functions of that name promise: a log for each program, named by it, and not run again.
RUN_FUNCTIONS = """\
getApplication() { sed -n 's/^ *application *\\([a-zA-Z]*\\) *;.*/\\1/p' system/controlDict; }
runApplication()
{
    if [ -f "log.$1" ]; then
        echo "$1 already run on $PWD: remove log file to re-run"
        return
    fi
    echo "Running $1 on $PWD"
    "$@" >"log.$1" 2>&1
}
"""
ALLRUN = """\
#!/bin/sh
cd "${0%/*}" || exit
. "$WM_PROJECT_DIR/bin/tools/RunFunctions"
runApplication blockMesh
runApplication $(getApplication)
echo done
"""


@pytest.fixture
def system(tmp_path: Path) -> System:
    shutil.copytree(CASE, tmp_path / "case")
    project = tmp_path / "OpenFOAM"
    (project / "bin/tools").mkdir(parents=True)
    (project / "bin/tools/RunFunctions").write_text(RUN_FUNCTIONS)
    (project / "etc").symlink_to("/usr/share/openfoam/etc")
    allrun = tmp_path / "case" / "Allrun"
    allrun.write_text(ALLRUN)
    allrun.chmod(0o755)
    made = System(tmp_path)
    made.env["WM_PROJECT_DIR"] = str(project)
    return made


def rows(system: System, code: int = 0) -> list[dict[str, Any]]:
    (system.folder / "study.yaml").write_text(STUDY)
    done = system.call("run", "study.yaml")
    assert done.returncode == code, done.stdout + done.stderr
    listed: list[dict[str, Any]] = json.loads(system.ok("results", "--json"))
    return listed


def test_it_runs_and_is_measured_as_the_default_steps_are(system: System) -> None:
    by_script = rows(system)
    shown = system.json("show", by_script[0]["job"])["result"]
    assert "step:Allrun" in shown["timings"]
    assert {"log.Allrun", "log.blockMesh", "log.icoFoam"} <= {
        each["name"] for each in shown["artifacts"]
    }
    (system.folder / "case/Allrun").unlink()
    by_steps = rows(system)
    assert [row["p_max"] for row in by_script] == [row["p_max"] for row in by_steps]
    assert [row["residual_p"] for row in by_script] == [row["residual_p"] for row in by_steps]


def test_a_program_of_it_that_fails_is_seen_though_the_script_ends_well(system: System) -> None:
    solution = system.folder / "case/system/fvSolution"
    solution.write_text(solution.read_text().replace("PISO", "PIZO"))
    for row in rows(system, code=1):
        failure = system.json("show", row["job"])["result"]["failure"]
        assert failure["step"] == "Allrun"
        assert "icoFoam stopped" in failure["message"]
        assert "PISO" in failure["message"]


def test_without_run_functions_the_default_steps_are_taken(system: System) -> None:
    shutil.rmtree(system.folder / "OpenFOAM" / "bin")
    row = rows(system)[0]
    assert "step:blockMesh" in system.json("show", row["job"])["result"]["timings"]
