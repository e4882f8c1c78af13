"""The real work: small cavity cases of icoFoam, and an MPI kernel, each a tenth to half a second long."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from queue_runner.workers.mpi import find

_EXAMPLES = Path(__file__).parents[2] / "examples"
_CAVITY = _EXAMPLES / "cavity" / "case"
_KERNELS = _EXAMPLES / "mpi-kernels" / "src"
#: Cells along an edge, of which the example has 20.
_CELLS = 30
RANKS = 2
KERNEL = "./kernels"
KERNEL_ARGUMENTS = ("512", "800")
_BUILD = ("mpicc", "-O2", "-o", "kernels", "kernels.c", "-lm")


def viscosity(number: int) -> float:
    return 0.01 + number / 10_000


def make_case(folder: Path) -> Path:
    """The template, with its mesh refined."""
    case = folder / "case"
    if not case.exists():
        shutil.copytree(_CAVITY, case)
        _replace(case / "system" / "blockMeshDict", "(20 20 1)", f"({_CELLS} {_CELLS} 1)")
    return case


def make_cases(folder: Path, count: int) -> list[Path]:
    """Ready to be run, with what a sweep would have written into them."""
    template = make_case(folder)
    cases = []
    for number in range(count):
        case = folder / f"case-{number}"
        shutil.copytree(template, case, dirs_exist_ok=True)
        properties = case / "constant" / "transportProperties"
        lines = properties.read_text().splitlines()
        kept = [line for line in lines if not line.startswith("nu ")]
        if len(kept) != len(lines) - 1:
            raise RuntimeError(f"{properties} has not one line with nu")
        properties.write_text(
            "\n".join([*kept, f"nu [0 2 -1 0 0 0 0] {viscosity(number)};"]) + "\n"
        )
        cases.append(case)
    return cases


def make_kernel(folder: Path) -> Path:
    """The folder with its program, built by the MPI that a worker would pick."""
    built = folder / "kernels"
    shutil.copytree(_KERNELS, built, dirs_exist_ok=True)
    subprocess.run(_BUILD, cwd=built, env={**os.environ, **find().environment()}, check=True)
    return built


def sweep_fields(folder: Path, count: int) -> Mapping[str, Any]:
    """Of the study."""
    return {
        "kind": "openfoam",
        "parameters": {"nu": [viscosity(number) for number in range(count)]},
        "openfoam": {
            "case": str(make_case(folder)),
            "set": {"constant/transportProperties": {"nu": "{nu}"}},
        },
    }


def kernel_fields(count: int) -> Mapping[str, Any]:
    """Of the study: built once by the worker, as the example is."""
    return {
        "kind": "mpi",
        "parameters": {"x": list(range(count))},
        "mpi": {
            "files": str(_KERNELS),
            "build": [list(_BUILD)],
            "program": KERNEL,
            "args": list(KERNEL_ARGUMENTS),
            "ranks": RANKS,
        },
        "measure": {"log": {"error": r"^error = (\S+)"}},
    }


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if old not in text:
        raise RuntimeError(f"{path} has no {old}")
    path.write_text(text.replace(old, new))
