"""Every example runs, on real OpenFOAM and MPI, and gives numbers that make sense."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shutil
import subprocess
import sys
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


def test_search(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "search" / "search.py")],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=280,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 9, done.stdout
    (table,) = tmp_path.glob("runs/search-*/results.csv")
    with table.open() as file:
        found = sorted(
            (float(row["speed"]), float(row["U_mag_max"])) for row in csv.DictReader(file)
        )
    assert len(found) == 8
    below = max(speed for speed, fastest in found if fastest < 0.4)
    above = min(speed for speed, fastest in found if fastest >= 0.4)
    assert above - below < 0.005
    assert f"between {below:.4f} and {above:.4f}" in lines[-1]


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


@pytest.mark.containers
@pytest.mark.openfoam
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("parallel programs")
def test_immutable(tmp_path: Path) -> None:
    system = System(tmp_path)
    # a fifth of its steps: ranks that wait for each other beside other tests take long
    copy = Path(shutil.copytree(EXAMPLES / "immutable", tmp_path / "example"))
    control = copy / "case/system/controlDict"
    shorter = re.sub(r"endTime .*;", "endTime 0.01;", control.read_text())
    control.write_text(re.sub(r"writeInterval .*;", "writeInterval 10;", shorter))
    # what it runs in is what the machine has
    del system.env["QUEUE_RUNNER_RUNTIME"]
    done = subprocess.run(
        [sys.executable, copy / "repeat.py", "--runs", "2"],
        cwd=tmp_path, env=system.env, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    made = tmp_path / "verified/immutable"
    assert (made / "plot.png").read_bytes().startswith(b"\x89PNG")
    with (made / "table.csv").open() as lines:
        table = list(csv.DictReader(lines))
    assert {row["place"] for row in table} == {"here, runtime process", "here, runtime docker"}
    sums = {(row["parts"], row["sum_of_mean_p"], row["fingerprint"]) for row in table}
    # one result for each way to cut it, wherever it ran, and another one for each
    assert len(sums) == len({row["parts"] for row in table}) == 3
    one, *others = (float(value) for _, value, _ in sorted(sums))
    assert all(abs(other / one - 1) < 1e-5 for other in others)


@pytest.mark.containers
@pytest.mark.hpcc
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("parallel programs")
def test_container_cost(tmp_path: Path) -> None:
    system = System(tmp_path)
    done = subprocess.run(
        [sys.executable, EXAMPLES / "container-cost/measure.py", "--rounds", "1", "--size", "200"],
        cwd=tmp_path, env=system.env, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "cost/plot.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "cost/table.csv").open() as lines:
        table = list(csv.DictReader(lines))
    metrics = {row["metric"] for row in table}
    assert {"latency_us", "triad_MBps", "HPL_Tflops", "StarSTREAM_Triad"} <= metrics
    assert {row["place"] for row in table} == {"bare, no CMA", "container", "noise"}
    assert all(float(row["bare"]) > 0 and float(row["container"]) > 0 for row in table)


def test_container_cost_of_rounds() -> None:
    costs = runpy.run_path(str(EXAMPLES / "container-cost/measure.py"))["costs"]
    values = {
        "latency_us": {"bare": [2.0, 1.0], "bare, no CMA": [2.0, 2.0], "container": [3.0, 2.0]}
    }
    found = {each.place: (each.least, each.median, each.most) for each in costs(values)}
    assert found == {
        "bare, no CMA": (0, 50, 100), "container": (50, 75, 100), "noise": (-50, -50, -50),
    }  # fmt: skip
