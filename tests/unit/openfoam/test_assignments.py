"""Values are written as OpenFOAM wants them, or refused with what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from queue_runner.errors import JobError
from queue_runner.workers.openfoam.assignments import assign

FILES = {
    "constant/transportProperties": """\
FoamFile { version 2.0; format ascii; class dictionary; object transportProperties; }
nu [0 2 -1 0 0 0 0] 0.01;
gravity (0 0 -9.81);
model Newtonian;
solvers { "(k|omega).*" { tolerance 1e-06; } }
#include "more"
""",
    "constant/more": "rho [1 -3 0 0 0 0 0] 1;\n",
    "0/U": """\
FoamFile { version 2.0; format ascii; class volVectorField; object U; }
dimensions [0 1 -1 0 0 0 0];
internalField uniform (0 0 0);
boundaryField { lid { type fixedValue; value uniform (1 0 0); } }
""",
    "0/p": """\
FoamFile { version 2.0; format ascii; class volScalarField; object p; }
dimensions [0 2 -2 0 0 0 0];
internalField nonuniform List<scalar> 3(1 2 3);
boundaryField { lid { type fixedValue; value uniform 1; } }
""",
}
PROPERTIES = "constant/transportProperties"


@pytest.fixture
def case(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "entry", "value", "written"),
    [
        (PROPERTIES, "nu", 0.5, "nu [0 2 -1 0 0 0 0] 0.5;"),
        (PROPERTIES, "nu", "nu [0 2 -1 0 0 0 0] 2", "nu nu [0 2 -1 0 0 0 0] 2"),
        (PROPERTIES, "rho", 2.0, "rho [1 -3 0 0 0 0 0] 2.0;"),
        (PROPERTIES, "gravity", [0, -9.81, 0], "gravity (0 -9.81 0);"),
        (PROPERTIES, "model", "powerLaw", "model powerLaw;"),
        (PROPERTIES, "solvers/(k|omega).*/tolerance", 1e-9, "tolerance 1e-09;"),
        ("0/U", "internalField", [1, 2, 3], "internalField uniform (1.0 2.0 3.0);"),
        ("0/U", "boundaryField/lid/value", "uniform (2 0 0)", "value uniform (2.0 0.0 0.0);"),
        ("0/p", "internalField", 7, "internalField uniform 7.0;"),
        ("0/p", "boundaryField/lid/value", 5.5, "value uniform 5.5;"),
        ("0/p", "boundaryField/lid/type", "zeroGradient", "type zeroGradient;"),
        (
            "0/U",
            "boundaryField/lid",
            {"type": "fixedValue", "value": "uniform (2 0 0)"},
            "lid { type fixedValue; value uniform (2.0 0.0 0.0); } }",
        ),
        (
            "0/U",
            "boundaryField/lid",
            {"type": "slip", "more": {"log": True, "at": [1, 2]}},
            "lid { type slip; more { log yes; at (1 2); } } }",
        ),
        (
            "0/U",
            "boundaryField/lid",
            {"value": [3, 0, 0]},
            "lid { value uniform (3.0 0.0 0.0); } }",
        ),
        (PROPERTIES, "solvers", {"p": {"solver": "PCG"}}, "solvers { p { solver PCG; } }"),
    ],
)
def test_what_is_written(case: Path, file: str, entry: str, value: Any, written: str) -> None:
    assign(case, [[file, entry, value]], must_exist=True)
    assert written in " ".join((case / file).read_text().split())


@pytest.mark.parametrize(
    ("entry", "value", "written"),
    [
        ("more", 0.5, "more 0.5;"),
        ("functions/probes/type", "probes", "functions { probes { type probes; } }"),
        (
            "functions/range",
            {
                "type": "fieldMinMax",
                "libs": ["fieldFunctionObjects"],
                "fields": ["p", "U"],
                "log": True,
            },
            "range { type fieldMinMax; libs (fieldFunctionObjects); fields (p U); log yes; }",
        ),
        ("solvers/p/tolerance", 1e-9, "p { tolerance 1e-09; }"),
        ("solvers/(k|omega).*/solver", "PCG", '"(k|omega).*" { tolerance 1e-06; solver PCG; }'),
    ],
)
def test_what_is_added(case: Path, entry: str, value: Any, written: str) -> None:
    assign(case, [[PROPERTIES, entry, value]], must_exist=False)
    assert written in " ".join((case / PROPERTIES).read_text().split())


def test_into_what_is_no_dictionary_nothing_is_added(case: Path) -> None:
    with pytest.raises(JobError, match="cannot set 'nu/more': 'nu' is no dictionary"):
        assign(case, [[PROPERTIES, "nu/more", 1]], must_exist=False)


def test_a_file_that_is_added(case: Path) -> None:
    assign(case, [["system/extraDict", "a/b/c", 1]], must_exist=False)
    assert "a { b { c 1; } }" in " ".join((case / "system/extraDict").read_text().split())


@pytest.mark.parametrize(
    ("file", "entry", "value", "message"),
    [
        ("0/U", "boundaryField/lid/value", 2.0, "expected a list of 3 numbers, .* found 2.0"),
        ("0/U", "internalField", [1, 2], "expected a list of 3 numbers"),
        ("0/p", "boundaryField/lid/value", [1, 0, 0], "expected a number, .* found"),
        ("0/p", "internalField", [1, 0, 0], "expected a number"),
        ("0/p", "boundaryField/lid", {"value": [1, 0, 0]}, "lid/value: expected a number"),
        (PROPERTIES, "nu", [1, 2], "expected a number"),
        (PROPERTIES, "gravity", 9.81, "expected a list of 3 numbers"),
        (PROPERTIES, "nuu", 1, "did you mean 'nu'"),
        (PROPERTIES, "rhoo", 1, "did you mean 'rho'"),
        (PROPERTIES, "solvers/k/tolerance", 1, "a pattern that covers it"),
        (PROPERTIES, "model", "a; b {", "cannot set 'model'"),
        ("0/T", "internalField", 1, "no file '0/T' in the case"),
        ("../outside", "x", 1, "outside the case"),
    ],
)
def test_what_is_refused(case: Path, file: str, entry: str, value: Any, message: str) -> None:
    with pytest.raises(JobError, match=message) as caught:
        assign(case, [[file, entry, value]], must_exist=True)
    assert caught.value.reason == "prepare"
