"""Which MPI runs what, on machines with several of them or none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.integration.system import EXAMPLES, System

OWN = str(Path(sys.prefix) / "bin")
PARTS = ("mpi", "orte", "opal", "ompi", "prte", "hydra")


def without_mpi(folder: Path) -> str:
    """A PATH with all programs of this machine but those of an MPI."""
    folder.mkdir()
    for entry in os.environ["PATH"].split(os.pathsep):
        for program in Path(entry).glob("*") if entry != OWN else ():
            link = folder / program.name
            if not link.exists() and not any(part in program.name for part in PARTS):
                link.symlink_to(program)
    return str(folder)


def known_of(system: System) -> dict[str, str]:
    found: dict[str, str] = system.json("show", system.json("results")[0]["job"])["result"][
        "provenance"
    ]
    return found


@pytest.mark.mpi
def test_where_there_is_no_mpi_the_wheel_serves(tmp_path: Path) -> None:
    system = System(tmp_path)
    system.env["PATH"] = without_mpi(tmp_path / "bin")
    system.ok("run", str(EXAMPLES / "mpi-kernels/study.yaml"), "-q", timeout_s=200)
    assert known_of(system)["mpi"].startswith("mpich ")
    assert {row["state"] for row in system.json("results")} == {"succeeded"}


@pytest.mark.openfoam
def test_openfoam_takes_open_mpi_though_another_comes_first(tmp_path: Path) -> None:
    system = System(tmp_path)
    system.env["PATH"] = f"{OWN}{os.pathsep}{system.env['PATH']}"
    assert (Path(OWN) / "mpiexec").exists()
    system.ok("run", str(EXAMPLES / "pitzdaily/study.yaml"), "-q", timeout_s=200)
    assert known_of(system)["mpi"].startswith("openmpi ")
