"""`show` and `rerun`: what a job was run with, and the same once more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.system import System, running_system, short_channel, study_folder

STUDY = """\
study: sums
kind: command
parameters: {x: [1, 2, 3]}
command: {files: ., run: [./job.sh, "{x}"]}
measure: {log: {y: 'y = (\\S+)'}}
keep: [out.txt]
"""


def test_a_job_shows_all_and_runs_again(tmp_path: Path, zeromq_url: str) -> None:
    with running_system(tmp_path, zeromq_url) as system:
        changing = tmp_path / "changed"
        script = (
            f'#!/bin/sh\necho "y = $1"; echo $1 >out.txt\n[ ! -e {changing} ] || echo 9 >out.txt\n'
        )
        system.ok("submit", str(study_folder(system, STUDY, job__sh=script)), "--wait")
        job = system.json("results")[1]["job"]
        shown = system.json("show", job)
        assert shown["job"]["point"] == {"x": 2}
        assert shown["result"]["metrics"] == {"y": 2}
        assert shown["rerun"] == f"queue-runner rerun {job}"
        known = shown["result"]["provenance"]
        assert {"host", "cpu", "kernel", "queue-runner", "runtime", "ranks", "bundle"} <= set(known)
        assert known["bundle"] in system.ok("show", job)

        assert "the same again" in system.ok("rerun", job, "--to", "again")
        assert (tmp_path / "again" / f"{job}.1" / "out.txt").read_text() == "2\n"
        changing.touch()
        again = system.call("rerun", job, "--to", "again")
        assert again.returncode == 1
        assert "out.txt was" in again.stdout


def test_a_job_that_is_not_there(tmp_path: Path, zeromq_url: str) -> None:
    with running_system(tmp_path, zeromq_url) as system:
        for command in ("show", "rerun"):
            done = system.call(command, "none.0000001")
            assert done.returncode == 2
            assert "none.0000001" in done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.openfoam
def test_a_parallel_case_tells_its_solver_and_mpi(tmp_path: Path) -> None:
    system = System(tmp_path)
    system.ok("run", str(short_channel(tmp_path)), "-q", timeout_s=200)
    known = system.json("show", system.json("results")[0]["job"])["result"]["provenance"]
    assert known["application"] == "simpleFoam"
    assert known["openfoam"]
    assert known["decomposition"].startswith("simple (2")
    assert known["mpi"].startswith("openmpi ")
    assert known["ranks"] == "2"


@pytest.mark.containers
def test_a_job_of_an_image_runs_again_in_it(tmp_path: Path) -> None:
    system = System(tmp_path)
    text = STUDY.replace("[1, 2, 3]", "[1]") + "image: queue-runner/base:latest\n"
    study = study_folder(system, text, job__sh='#!/bin/sh\necho "y = $1"; id -u >out.txt\n')
    system.ok("run", str(study), "--runtime", "docker")
    job = system.json("results")[0]["job"]
    said = system.json("rerun", job)
    assert said["differences"] == []
    before = system.json("show", job)["result"]["provenance"]
    for name in ("runtime", "image"):
        assert said["result"]["provenance"][name] == before[name]
    assert before["runtime"] == "docker"
