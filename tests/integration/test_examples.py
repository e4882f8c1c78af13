"""Every example runs, on real OpenFOAM and MPI, and gives numbers that make sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.system import System

EXAMPLES = Path(__file__).parents[2] / "examples"


def rows(folder: Path, example: str) -> list[dict[str, Any]]:
    system = System(folder)
    system.ok("run", str(EXAMPLES / example / "study.yaml"), timeout_s=280)
    listed: list[dict[str, Any]] = json.loads(system.ok("results", "--json"))
    assert all(row["state"] == "succeeded" for row in listed)
    return listed


def test_cavity(tmp_path: Path) -> None:
    found = rows(tmp_path, "cavity")
    assert len(found) == 12
    # the lid is the fastest thing there is, and cells below it are slower
    assert all(0.5 * row["speed"] < row["U_mag_max"] < row["speed"] for row in found)
    # creeping flow: pressure grows with viscosity and speed
    assert found[-1]["p_max"] > found[0]["p_max"]


def test_pitzdaily(tmp_path: Path) -> None:
    found = rows(tmp_path, "pitzdaily")
    assert [row["speed"] for row in found] == [5, 10, 15]
    assert all(row["last_time"] == 150 for row in found)
    # turbulent: pressure scales with the square of the speed, within a few per cent
    scaled = [row["p_min"] / row["speed"] ** 2 for row in found]
    assert max(scaled) - min(scaled) < 0.05 * abs(scaled[0])


def test_dambreak(tmp_path: Path) -> None:
    found = rows(tmp_path, "dambreak")
    low, high = (row["alpha.water_mean"] for row in found)
    assert 0 < low < high < 1
    assert high / low == pytest.approx(1.5, rel=0.05)


def test_mpi_kernels(tmp_path: Path) -> None:
    found = rows(tmp_path, "mpi-kernels")
    assert {row["ranks"] for row in found} == {1, 2}
    by_point = {(row["ranks"], row["n"]): row for row in found}
    for size in (32, 64, 128):
        # the decomposition changes nothing but the order of sums
        one, two = by_point[1, size]["error"], by_point[2, size]["error"]
        assert one == pytest.approx(two, rel=1e-6)
        assert one < 1e-2
    assert by_point[2, 64]["allreduce"] == 3
