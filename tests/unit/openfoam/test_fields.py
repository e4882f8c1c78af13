"""Statistics of fields: every way that OpenFOAM writes them, whole and in pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_runner.errors import JobError
from queue_runner.workers.openfoam.fields import measure_fields


def field(path: Path, kind: str, values: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"FoamFile {{ version 2.0; format ascii; class {kind}; object q; }}\n"
        f"dimensions [0 0 0 0 0 0 0];\ninternalField {values};\nboundaryField {{}}\n"
    )


def piece(case: Path, rank: int, values: str, cells: int | None = None) -> None:
    field(case / f"processor{rank}/1/q", "volScalarField", values)
    if cells is not None:
        owner = case / f"processor{rank}/constant/polyMesh/owner"
        owner.parent.mkdir(parents=True)
        owner.write_text(f'FoamFile {{ note "nPoints:8 nCells:{cells} nFaces:6"; }}\n')


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("volScalarField", "uniform 3", {"q_max": 3, "q_mean": 3}),
        ("volScalarField", "nonuniform List<scalar> 3(1 2 6)", {"q_max": 6, "q_mean": 3}),
        ("volScalarField", "nonuniform List<scalar> 3{1.5}", {"q_max": 1.5, "q_mean": 1.5}),
        (
            "volVectorField",
            "uniform (3 4 0)",
            {
                "q_mag_max": 5,
                "q_mag_mean": 5,
                "q_x_max": 3,
                "q_x_mean": 3,
                "q_y_max": 4,
                "q_y_mean": 4,
                "q_z_max": 0,
                "q_z_mean": 0,
            },
        ),
        (
            "volSymmTensorField",
            "nonuniform List<symmTensor> 1((2 0 0 0 0 0))",
            {"q_mag_max": 2, "q_mag_mean": 2},
        ),
    ],
)
def test_values(tmp_path: Path, kind: str, values: str, expected: dict[str, float]) -> None:
    field(tmp_path / "1/q", kind, values)
    assert measure_fields(tmp_path, {"q": ["max", "mean"]}) == expected


def test_a_uniform_piece_counts_as_many_cells_as_it_has(tmp_path: Path) -> None:
    piece(tmp_path, 0, "uniform 1", cells=9)
    piece(tmp_path, 1, "nonuniform List<scalar> 3(2 2 2)")
    piece(tmp_path, 2, "nonuniform List<scalar> 0()")
    found = measure_fields(tmp_path, {"q": ["min", "max", "mean"]})
    assert found == {"q_min": 1, "q_max": 2, "q_mean": pytest.approx((9 * 1 + 3 * 2) / 12)}


def test_a_uniform_piece_of_unknown_size_has_no_mean(tmp_path: Path) -> None:
    piece(tmp_path, 0, "uniform 1")
    piece(tmp_path, 1, "nonuniform List<scalar> 3(2 2 2)")
    with pytest.raises(JobError, match="uniform on processor0, whose number of cells"):
        measure_fields(tmp_path, {"q": ["mean"]})


def test_numbers_that_are_none_are_divergence(tmp_path: Path) -> None:
    field(tmp_path / "1/q", "volScalarField", "nonuniform List<scalar> 4(1 nan 3 inf)")
    with pytest.raises(JobError, match=r"'q' at time 1 .* in 2 of 4 cells") as caught:
        measure_fields(tmp_path, {"q": ["min"]})
    assert caught.value.reason == "diverged"


def test_the_field_of_the_start_is_no_result(tmp_path: Path) -> None:
    field(tmp_path / "0/q", "volScalarField", "uniform 3")
    with pytest.raises(JobError, match="nothing was written after the start"):
        measure_fields(tmp_path, {"q": ["max"]}, after=0)
    # potentialFoam and its like write where they began
    assert measure_fields(tmp_path, {"q": ["max"]}) == {"q_max": 3}


def test_pieces_that_were_not_put_together_are_later_than_the_whole(tmp_path: Path) -> None:
    field(tmp_path / "0/q", "volScalarField", "uniform 3")
    piece(tmp_path, 0, "nonuniform List<scalar> 2(1 2)")
    assert measure_fields(tmp_path, {"q": ["max"]}) == {"q_max": 2}


def test_the_field_of_a_region(tmp_path: Path) -> None:
    field(tmp_path / "1/fluid/q", "volScalarField", "uniform 3")
    assert measure_fields(tmp_path, {"fluid/q": ["max"]}) == {"fluid/q_max": 3}


@pytest.mark.parametrize(
    ("asked", "values", "message"),
    [
        ("Q", "uniform 1", "no field 'Q' at time 1; known: q"),
        ("../q", "uniform 1", "leads outside"),
        ("q", "nonuniform List<scalar> 0()", "no values"),
        ("q", "gone", "cannot read q"),
    ],
)
def test_what_is_wrong(tmp_path: Path, asked: str, values: str, message: str) -> None:
    field(tmp_path / "1/q", "volScalarField", values)
    with pytest.raises(JobError, match=message) as caught:
        measure_fields(tmp_path, {asked: ["max"]})
    assert caught.value.reason == "metrics"
