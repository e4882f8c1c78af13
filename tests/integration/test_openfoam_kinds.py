"""The kinds openfoam and mpi, on the examples, with the real programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from queue_runner.errors import JobError
from queue_runner.model import Job
from queue_runner.workers.kinds.base import Kind
from queue_runner.workers.kinds.mpi import MpiKind
from queue_runner.workers.kinds.openfoam import OpenFoamKind

EXAMPLES = Path(__file__).parents[2] / "examples"


def job(kind: str, spec: dict[str, Any], measure: dict[str, Any] | None = None) -> Job:
    return Job(
        id="j",
        study="s",
        index=0,
        kind=kind,
        point={},
        spec=spec,
        measure=measure or {},
        bundle="b",
    )


def run(kind: Kind, one: Job, folder: Path) -> None:
    kind.prepare(one, folder)
    for step in kind.steps(one, folder):
        with (folder / step.log).open("w") as log:
            code = subprocess.run(
                step.argv, cwd=folder, env={**os.environ, **step.env}, stdout=log, stderr=log
            ).returncode
        tail = (folder / step.log).read_text()
        if code:
            raise AssertionError(f"{kind.diagnose(one, folder, step, tail)}\n{tail[-1500:]}")
        assert kind.verify(one, folder, step, tail) is None


@pytest.fixture
def cavity(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES / "cavity" / "case", tmp_path / "case"))


def test_cavity_follows_its_parameters_and_ranks_agree(cavity: Path, tmp_path: Path) -> None:
    measure = {
        "openfoam": {
            "residuals": True,
            "time": True,
            "execution_time": True,
            "fields": {"U": ["max", "mean"], "p": ["min"]},
        }
    }
    assignments = [
        ["constant/transportProperties", "nu", 0.02],
        ["0/U", "boundaryField/movingWall/value", [0.5, 0, 0]],
        [
            "system/blockMeshDict",
            "blocks",
            "(hex (0 1 2 3 4 5 6 7) (10 10 1) simpleGrading (1 1 1))",
        ],
    ]
    two = Path(shutil.copytree(cavity, tmp_path / "two"))
    found = []
    for folder, ranks in ((cavity, 1), (two, 2)):
        one = job("openfoam", {"set": assignments, "ranks": ranks}, measure)
        run(OpenFoamKind(), one, folder)
        found.append(OpenFoamKind().metrics(one, folder))
    assert "[0 2 -1 0 0 0 0] 0.02" in (cavity / "constant/transportProperties").read_text()
    assert found[0]["last_time"] == 0.5
    assert 0 < found[0]["U_mag_max"] < 0.5
    assert found[1]["U_mag_max"] == pytest.approx(found[0]["U_mag_max"], rel=1e-3)


@pytest.mark.parametrize(
    ("assignment", "text"),
    [
        (["constant/transportProperties", "nuu", 1], "nu"),
        (["constant/transportPropertie", "nu", 1], "constant/transportProperties"),
        (["../outside", "nu", 1], "outside the case"),
    ],
)
def test_a_wrong_assignment_is_named(cavity: Path, assignment: list[Any], text: str) -> None:
    with pytest.raises(JobError, match=text) as caught:
        OpenFoamKind().prepare(job("openfoam", {"set": [assignment]}), cavity)
    assert caught.value.reason == "prepare"


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_kernels_agree_with_the_exact_solution(tmp_path: Path, ranks: int) -> None:
    folder = Path(shutil.copytree(EXAMPLES / "mpi-kernels" / "src", tmp_path / "src"))
    spec = {
        "build": [["mpicc", "-O2", "-o", "kernels", "kernels.c", "-lm"]],
        "program": "./kernels",
        "args": ["32", "200"],
        "ranks": ranks,
    }
    run(MpiKind(), job("mpi", spec), folder)
    lines = dict(
        line.split(" = ")
        for line in (folder / "log.mpiexec").read_text().splitlines()
        if " = " in line
    )
    assert lines["ranks"] == str(ranks)
    assert float(lines["error"]) < 1e-3


def test_a_missing_keyword_is_not_taken_for_divergence(cavity: Path) -> None:
    properties = cavity / "constant/transportProperties"
    properties.write_text(properties.read_text().replace("nu ", "mu "))
    with pytest.raises(
        AssertionError, match=r"'prepare'.*nu is undefined in constant/transportProperties"
    ):
        run(OpenFoamKind(), job("openfoam", {}), cavity)


def test_a_floating_point_exception_is_divergence(cavity: Path) -> None:
    wild = ["0/U", "boundaryField/movingWall/value", [1e60, 0, 0]]
    with pytest.raises(AssertionError, match="'diverged'"):
        run(OpenFoamKind(), job("openfoam", {"set": [wild]}), cavity)
