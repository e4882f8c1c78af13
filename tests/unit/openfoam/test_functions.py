"""Function objects' files, as OpenFOAM 1912 and its relatives write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_runner.errors import JobError
from queue_runner.workers.openfoam.functions import last_line


def read(case: Path, files: dict[str, str], function: str = "f") -> dict[str, object]:
    for name, content in files.items():
        path = case / "postProcessing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return dict(last_line(case, function))


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ("# Time\tUx\tp\n0 1 2\n1 3 4\n", {"f.Ux": 3, "f.p": 4}),
        (
            "# Faces : 10\n# Time\tareaAverage(U)\tsum(phi)\n1 (1 2 3) 4\n",
            {
                "f.areaAverage(U).x": 1,
                "f.areaAverage(U).y": 2,
                "f.areaAverage(U).z": 3,
                "f.sum(phi)": 4,
            },
        ),
        # a vector and a scalar beside a name with two words in parentheses: pairing flat would shift
        (
            "# Time weightedAverage(alpha,p) areaAverage(mag(U)) max(T)\n1 5 6 7\n",
            {"f.weightedAverage(alpha,p)": 5, "f.areaAverage(mag(U))": 6, "f.max(T)": 7},
        ),
        (
            "# Time (total_x total_y total_z) (p_x p_y p_z)\n1 (1 2 3) (4 5 6)\n",
            {"f.total_x": 1, "f.total_y": 2, "f.total_z": 3, "f.p_x": 4, "f.p_y": 5, "f.p_z": 6},
        ),
        (
            "# Time forces(pressure viscous)\n1 ((1 2 3) (4 5 6))\n",
            {
                "f.forces.pressure.x": 1,
                "f.forces.pressure.y": 2,
                "f.forces.pressure.z": 3,
                "f.forces.viscous.x": 4,
                "f.forces.viscous.y": 5,
                "f.forces.viscous.z": 6,
            },
        ),
        ("# Time (a b)\n1 2 3\n", {"f.a": 2, "f.b": 3}),
        ("# Time\n1 2 (3 4)\n", {"f.0": 2, "f.1.0": 3, "f.1.1": 4}),
        (
            "# Time field min location(min) processor max location(max) processor\n"
            "1 p -1 (0 0 1) 0 2 (1 0 0) 1\n",
            {
                "f.field": "p",
                "f.min": -1,
                "f.location(min).x": 0,
                "f.location(min).y": 0,
                "f.location(min).z": 1,
                "f.processor": 0,
                "f.max": 2,
                "f.location(max).x": 1,
                "f.location(max).y": 0,
                "f.location(max).z": 0,
                "f.processor.2": 1,
            },
        ),
        (
            "# Time field min max\n1 p 0 1\n1 mag(U) 2 3\n2 p -1 4\n2 mag(U) 5 6\n",
            {"f.p.min": -1, "f.p.max": 4, "f.mag(U).min": 5, "f.mag(U).max": 6},
        ),
        ("# Time a\n1 nan\n", None),
    ],
)
def test_columns(tmp_path: Path, content: str, values: dict[str, object] | None) -> None:
    found = read(tmp_path, {"f/0/f.dat": content})
    if values is None:
        assert str(found["f.a"]) == "nan"
    else:
        assert found == values


def test_after_a_restart_the_newest_file_that_has_values_counts(tmp_path: Path) -> None:
    files = {"f/0/a.dat": "# Time v\n0.5 1\n", "f/0.5/a.dat": "# Time v\n1 2\n"}
    assert read(tmp_path, {**files, "f/1/a.dat": "# Time v\n"}) == {"f.v": 2}


def test_several_files_and_probes_have_the_files_name(tmp_path: Path) -> None:
    files = {"f/0/U": "# Probe 0 (0 0 0)\n# Time\n1 (1 2 3)\n", "f/0/p": "# Time\n1 7\n"}
    assert read(tmp_path, files) == {"f.U.0.x": 1, "f.U.0.y": 2, "f.U.0.z": 3, "f.p.0": 7}


def test_a_function_of_a_region_has_it_before_its_name(tmp_path: Path) -> None:
    files = {"fluid/f/0/a.dat": "# Time v\n1 2\n"}
    assert read(tmp_path, files, "fluid/f") == {"fluid/f.v": 2}
    with pytest.raises(JobError, match="known: fluid/f"):
        last_line(tmp_path, "f")


def test_the_last_line_of_a_long_file(tmp_path: Path) -> None:
    content = "# Time v\n" + "".join(f"{time} {time * 2}\n" for time in range(60_000))
    assert read(tmp_path, {"f/0/a.dat": content}) == {"f.v": 119_998}


@pytest.mark.parametrize(
    ("files", "function", "message"),
    [
        ({}, "f", "'f' wrote nothing under postProcessing"),
        ({"forces/0/a.dat": "1 2\n"}, "force", "did you mean 'forces'"),
        ({"f/0/a.dat": "# Time v\n"}, "f", "a.dat of function object 'f' has no values"),
        ({}, "../f", "leads outside"),
    ],
)
def test_what_is_not_there(
    tmp_path: Path, files: dict[str, str], function: str, message: str
) -> None:
    with pytest.raises(JobError, match=message) as caught:
        read(tmp_path, files, function)
    assert caught.value.reason == "metrics"
