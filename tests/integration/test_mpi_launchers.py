"""Which MPI runs what, on machines with several of them or none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.system import EXAMPLES, System, short_channel

OWN = str(Path(sys.prefix) / "bin")
PARTS = ("mpi", "orte", "opal", "ompi", "prte", "hydra")


SIZE = """\
#include <mpi.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    int rank, size;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (rank == 0)
        printf("size = %d\\n", size);
    MPI_Finalize();
    return 0;
}
"""
PREBUILT = """\
study: prebuilt
kind: mpi
measure: {log: {size: 'size = (\\d+)'}}
mpi:
  files: src
  program: ./size
  ranks: 2
"""


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


@pytest.mark.mpi
def test_an_mpi_that_cannot_compile_builds_nothing(tmp_path: Path) -> None:
    """Debian's openmpi-bin, which comes with OpenFOAM, has mpicc, but no mpi.h."""
    system = System(tmp_path)
    system.env["PATH"] = without_mpi(tmp_path / "bin")
    (tmp_path / "bin/mpiexec").symlink_to("/usr/bin/mpiexec")
    (tmp_path / "bin/mpicc").write_text('#!/bin/sh\nexec cc "$@"\n')
    (tmp_path / "bin/mpicc").chmod(0o755)
    system.ok("run", str(EXAMPLES / "mpi-kernels/study.yaml"), "-q", timeout_s=200)
    assert known_of(system)["mpi"].startswith("mpich ")


@pytest.mark.openfoam
def test_openfoam_takes_open_mpi_though_another_comes_first(tmp_path: Path) -> None:
    system = System(tmp_path)
    system.env["PATH"] = f"{OWN}{os.pathsep}{system.env['PATH']}"
    assert (Path(OWN) / "mpiexec").exists()
    system.ok("run", str(short_channel(tmp_path)), "-q", timeout_s=200)
    assert known_of(system)["mpi"].startswith("openmpi ")


@pytest.mark.mpi
@pytest.mark.parametrize("flavour", ["mpich", "openmpi"])
def test_a_program_is_started_by_the_mpi_it_is_linked_with(tmp_path: Path, flavour: str) -> None:
    system = System(tmp_path)
    compiler = shutil.which("mpicc", path=OWN if flavour == "mpich" else "/usr/bin")
    assert compiler is not None
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "size.c").write_text(SIZE)
    subprocess.run([compiler, "-o", "size", "size.c"], cwd=tmp_path / "src", check=True)
    (tmp_path / "study.yaml").write_text(PREBUILT)
    system.ok("run", "study.yaml", "-q", timeout_s=100)
    (row,) = system.json("results")
    assert row["size"] == 2
    assert known_of(system)["mpi"].startswith(f"{flavour} ")


@pytest.mark.mpi
def test_a_program_of_an_mpi_that_is_not_here_is_not_run(tmp_path: Path) -> None:
    system = System(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "size.c").write_text(SIZE)
    subprocess.run(
        ["/usr/bin/mpicc", "-o", "size", "size.c"], cwd=tmp_path / "src", check=True
    )  # fmt: skip
    system.env["PATH"] = without_mpi(tmp_path / "bin")
    (tmp_path / "study.yaml").write_text(PREBUILT)
    assert system.call("run", "study.yaml", "-q", timeout_s=100).returncode == 1
    (row,) = system.json("results")
    assert row["reason"] == "missing-program"
    said = system.ok("logs", row["job"])
    assert "./size is linked with openmpi" in said
    assert "each rank would run alone" in said


@pytest.mark.mpi
def test_a_build_with_the_compiler_of_another_mpi_is_told(tmp_path: Path) -> None:
    system = System(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "size.c").write_text(SIZE)
    build = f"  build: [['{OWN}/mpicc', -o, size, size.c]]\n"
    (tmp_path / "study.yaml").write_text(PREBUILT + build)
    assert system.call("run", "study.yaml", "-q", timeout_s=100).returncode == 1
    (row,) = system.json("results")
    assert row["reason"] == "prepare"
    assert "build: ./size is linked with mpich" in system.ok("logs", row["job"])
