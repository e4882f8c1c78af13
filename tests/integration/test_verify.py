"""`queue-runner verify`: the same jobs several times, here and on workers of their own."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from queue_runner.client.verify import _SILENT_S
from tests.integration.system import EXAMPLES, System, eventually, study_folder

STEADY = """\
study: steady
kind: command
parameters: {x: [1, 2]}
command: {files: ., run: [./job.sh, "{x}"]}
measure: {log: {y: 'y = (\\S+)'}}
"""
WRITES = '#!/bin/sh\nmkdir -p out\necho "p $1.5" >out/field\necho "y = $1"\n'


def report(system: System, name: str = "steady") -> Any:
    return json.loads((system.folder / "verified" / name / "report.json").read_text())


def test_jobs_that_do_the_same_are_the_same(tmp_path: Path) -> None:
    system = System(tmp_path)
    study = study_folder(system, STEADY, job__sh=WRITES)
    said = system.ok("verify", str(study), "--runs", "3")
    # job.sh is a file of the job, too
    assert "The same: 2 points, 3 runs each; 4 files and 2 metrics, to the last bit." in said
    found = report(system)
    assert (found["same"], found["compared"], len(found["runs"])) == (True, 6, 3)
    assert [point["files"] for point in found["points"]] == [2, 2]
    assert (system.folder / "verified/steady/table.csv").read_text().startswith("index,x,succeeded")
    # the runs of a verification are no results
    assert not (tmp_path / "runs").exists()
    # done is done: the same command begins anew, and leaves nothing of the last one
    before = set((tmp_path / "verified/steady").glob("*-verify-*"))
    system.ok("verify", str(study), "--runs", "2")
    after = set((tmp_path / "verified/steady").glob("*-verify-*"))
    assert len(after) == 2
    assert sorted(each.name for each in (tmp_path / "verified/steady").iterdir()) == sorted(
        [*(each.name for each in after), "report.json", "store", "table.csv"]
    )
    assert not before & after


def test_in_the_studys_own_folder_its_results_stay_out_of_the_jobs(tmp_path: Path) -> None:
    system = System(tmp_path)
    study = study_folder(system, STEADY, job__sh=WRITES)
    system.folder = study.parent
    system.ok("verify", "study.yaml", "--runs", "2")
    first = report(system)["compared"]
    system.ok("verify", "study.yaml", "--runs", "2")
    assert report(system)["compared"] == first


#: Each run of point 2 writes other numbers than the one before.
COUNTS = """\
#!/bin/sh
mkdir -p out
[ $1 = 2 ] && { echo >>{ledger}; n=$(wc -l <{ledger}); }
echo "p $1.5 1.0000${n}" >out/field
echo "y = $1.0${n}"
"""


def counting(system: System) -> Path:
    script = COUNTS.replace("{ledger}", str(system.folder / "ledger"))
    return study_folder(system, STEADY, job__sh=script)


def test_what_differs_is_named(tmp_path: Path) -> None:
    system = System(tmp_path)
    done = system.call("verify", str(counting(system)), "--runs", "2")
    assert done.returncode == 1
    assert "point 1: out/field, run 2: line 1: 1.00001 / 1.00002 (relative 1e-05)" in done.stdout
    assert "point 1: y, run 2: 2.01 / 2.02" in done.stdout
    assert "Not the same: 2 points, 2 runs each" in done.stdout
    found = report(system)
    assert not found["agree"]
    assert [len(point["differences"]) for point in found["points"]] == [0, 2]
    assert found["points"][1]["largest"] == pytest.approx(0.01 / 2.02)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--tolerance", "0.1"], 0),
        (["--tolerance", "1e-4"], 1),
        (["--tolerance", "1e-4", "--ignore", "y"], 0),
        (["--ignore", "y", "--ignore", "out/*"], 0),
        (["--compare", "job.sh", "--ignore", "y"], 0),
        (["--absolute", "0.02"], 0),
    ],
)
def test_what_may_differ_can_be_said(options: list[str], code: int, tmp_path: Path) -> None:
    system = System(tmp_path)
    done = system.call("verify", str(counting(system)), "--runs", "2", *options)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("Not the same" in done.stdout) is (code == 1)


def test_jobs_that_fail_are_not_verified(tmp_path: Path) -> None:
    system = System(tmp_path)
    study = study_folder(system, STEADY, job__sh="#!/bin/sh\n[ $1 = 2 ] && exit 3\necho y = 1\n")
    done = system.call("verify", str(study), "--runs", "2")
    assert done.returncode == 1
    assert "of which 1 did not always succeed" in done.stdout


def test_with_nothing_to_compare_it_says_so(tmp_path: Path) -> None:
    system = System(tmp_path)
    text = STEADY.replace("measure", "# measure")
    study = study_folder(system, text, job__sh=WRITES)
    done = system.call("verify", str(study), "--runs", "2", "--compare", "nowhere/*")
    assert done.returncode == 2
    assert "there is nothing to compare" in done.stderr
    assert "--compare" in done.stderr


WAITS = '#!/bin/sh\necho $1 >>{ledger}\nwhile [ ! -e {gate} ]; do sleep 0.1; done\necho "y = $1"\n'


def test_interrupted_it_goes_on(tmp_path: Path) -> None:
    system = System(tmp_path)
    gate, ledger = tmp_path / "gate", tmp_path / "ledger"
    script = WAITS.replace("{gate}", str(gate)).replace("{ledger}", str(ledger))
    study = study_folder(system, STEADY, job__sh=script)
    arguments = ["verify", str(study), "--runs", "2", "--cores", "1"]
    first = system.popen(*arguments)
    eventually(lambda: ledger.exists() or None)
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130
    names = set((tmp_path / "verified/steady").glob("*-verify-*"))
    gate.touch()
    assert "The same" in system.ok(*arguments)
    # the run that was begun was continued
    assert names < set((tmp_path / "verified/steady").glob("*-verify-*"))


# -- elsewhere ---------------------------------------------------------------------------------------


@contextmanager
def two_workers(folder: Path, broker: str) -> Iterator[System]:
    """A collector and the workers `one` and `two`, which it has heard of."""
    system = System(folder, broker)
    try:
        system.start_collector()
        for name in ("one", "two"):
            system.start_worker(name, "--cores", "2")
        eventually(lambda: len(system.json("status")["workers"]) == 2 or None)
        yield system
    finally:
        system.stop()


def test_each_run_has_a_worker_of_its_own(broker_url: str, tmp_path: Path) -> None:
    with two_workers(tmp_path, broker_url) as system:
        study = study_folder(system, STEADY, job__sh=WRITES)
        said = system.ok("verify", str(study), "--runs", "2", "--across", "workers")
        assert "run 1 on one; run 2 on two" in said
        assert "The same: 2 points, 2 runs each" in said
        for status in system.json("status")["studies"]:
            (worker,) = {
                row["worker"] for row in json.loads(system.ok("results", status["id"], "--json"))
            }
            assert worker == {"1": "one", "2": "two"}[status["name"][-1]]


# what the collector knows of workers and studies is the same whatever the broker
def test_too_few_workers_are_told_and_without_a_file_any_worker_does(
    zeromq_url: str, tmp_path: Path
) -> None:
    with two_workers(tmp_path, zeromq_url) as system:
        study = study_folder(system, STEADY, job__sh=WRITES)
        too_many = system.call("verify", str(study), "--runs", "3", "--across", "workers")
        assert too_many.returncode == 2
        assert "3 runs need 3 workers" in too_many.stderr
        assert "there are 2 (one, two)" in too_many.stderr
        hosts = system.call("verify", str(study), "--runs", "2", "--across", "hosts")
        assert "2 runs need 2 hosts" in hosts.stderr
        system.ok("submit", str(study), "--wait")
        study.unlink()
        known = system.json("status")["studies"][0]["id"]
        anywhere = system.ok("verify", known, "--runs", "2")
        assert "run 1 on any worker; run 2 on any worker" in anywhere


def test_a_worker_that_ends_ends_the_wait(zeromq_url: str, tmp_path: Path) -> None:
    system = System(tmp_path, zeromq_url)
    try:
        system.start_collector()
        for name in ("one", "two"):
            # what it held when it was killed comes back after that
            system.start_worker(name, "--cores", "1", "--lease", "5")
        eventually(lambda: len(system.json("status")["workers"]) == 2 or None)
        gate, ledger = tmp_path / "gate", tmp_path / "ledger"
        script = WAITS.replace("{gate}", str(gate)).replace("{ledger}", str(ledger))
        study = study_folder(system, STEADY, job__sh=script)
        verifying = system.popen("verify", str(study), "--runs", "2", "--across", "workers")
        eventually(lambda: (ledger.exists() and len(ledger.read_text().split()) == 2) or None)
        system.daemons["two"].send_signal(signal.SIGKILL)
        system.daemons["two"].wait()
        gate.touch()
        assert verifying.wait(120) == 2
        said = (tmp_path / "output.log").read_text()
        assert "the worker two has ended, and its run with it" in said
        # what it says to do does it
        system.start_worker("two", "--cores", "1", "--lease", "5")
        # the collector has to hear of it again
        eventually(
            lambda: all(each["age_s"] < _SILENT_S for each in system.json("status")["workers"])
        )
        assert "The same" in system.ok(
            "verify", str(study), "--runs", "2", "--across", "workers", timeout_s=200
        )
    finally:
        system.stop()


@pytest.mark.openfoam
@pytest.mark.containers
def test_a_case_in_a_container_is_what_it_is_outside(tmp_path: Path) -> None:
    system = System(tmp_path)
    study = EXAMPLES / "cavity/study.yaml"
    said = system.ok(
        "verify", str(study), "--runs", "2", "--runtime", "process", "--runtime", "docker",
        timeout_s=250,
    )  # fmt: skip
    assert "run 1 here, runtime process; run 2 here, runtime docker" in said
    assert "The same: 12 points, 2 runs each" in said
    point = report(system, "cavity")["points"][0]
    # p, U, phi and uniform/time of the last time, and what it began with
    assert point["files"] >= 4
    # how long it took is measured, but not compared
    assert point["metrics"] == len(set(point["values"]) - {"execution_time", "clock_time"})


def test_a_study_that_was_run_needs_no_file(tmp_path: Path) -> None:
    system = System(tmp_path)
    study = study_folder(system, STEADY, job__sh=WRITES)
    system.ok("run", str(study))
    # what was run is verified, not what has become of its folder
    (study.parent / "job.sh").write_text("#!/bin/sh\nexit 1\n")
    said = system.ok("verify", "steady", "--runs", "2")
    assert "The same: 2 points, 2 runs each; 4 files and 2 metrics" in said
    unknown = system.call("verify", "stead", "--runs", "2")
    assert unknown.returncode == 2
    assert "there is no file stead, and" in unknown.stderr
    folder = system.call("verify", "study", "--runs", "2")
    assert "study/study.yaml" in folder.stderr


def test_bad_requests_are_answered_in_words(tmp_path: Path) -> None:
    system = System(tmp_path)
    study = study_folder(system, STEADY, job__sh=WRITES)
    system.env["QUEUE_RUNNER_RUNTIME"] = "podman"
    assert "expected one of auto, docker, process" in system.call("verify", str(study)).stderr
    del system.env["QUEUE_RUNNER_RUNTIME"]
    both = system.call("verify", str(study), "--across", "workers", "--runtime", "process")
    assert both.returncode == 2
    assert "workers have a runtime of their own" in both.stderr
    assert system.call("verify", str(study), "--runs", "1").returncode == 2
