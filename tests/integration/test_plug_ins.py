"""A kind, a runtime and a broker adapter of another package, found through its entry points."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.system import System, running_system

#: As if installed: a module and the metadata of its package.
THEIRS = Path(__file__).parent / "theirs"
STUDY = """\
study: sums
kind: sums
parameters: {x: [1, 2, 60]}
sums: {terms: ["{x}", "{x * 10}"]}
"""
#: Adapters of ours run all of it.
SOME = "silence or everyone or a_counted or ten_thousand"
CONTRACT = """
import pytest
from queue_runner.testing.contract import BrokerContract

class TestTheirs(BrokerContract):
    @pytest.fixture
    def broker_url(self, zeromq_url):
        return zeromq_url.replace("zmq", "theirs", 1)
"""


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(THEIRS))


def write(system: System, text: str) -> Path:
    (system.folder / "study.yaml").write_text(text)
    return system.folder / "study.yaml"


def test_a_study_of_their_kind_in_their_runtime_through_their_broker(
    zeromq_url: str, tmp_path: Path
) -> None:
    url = zeromq_url.replace("zmq", "theirs", 1)
    with running_system(tmp_path, url, "--runtime", "noted") as system:
        study = write(system, STUDY)
        assert "3 jobs" in system.ok("check", str(study))
        done = system.call("submit", str(study), "--wait")
        assert done.returncode == 1
        rows = system.json("results")
        assert [(row["state"], row["reason"]) for row in rows] == [
            ("succeeded", None), ("succeeded", None), ("failed", "over-limit"),
        ]  # fmt: skip
        assert [row["sum"] for row in rows[:2]] == [11, 22]
        assert "add-2 brought the sum over 100" in system.ok("logs", rows[2]["job"])
        known = system.json("show", rows[0]["job"])["result"]["provenance"]
        assert (known["sums"], known["noted"], known["runtime"]) == ("1.0", "yes", "noted")
        notes = (tmp_path / "scratch/notes").read_text().split()
        assert sorted(notes) == ["add-1"] * 3 + ["add-2"] * 3


def test_a_worker_without_their_kind_buries_its_jobs_and_says_why(
    zeromq_url: str, tmp_path: Path
) -> None:
    system = System(tmp_path, zeromq_url)
    known = system.env.pop("PYTHONPATH")
    try:
        system.start_collector()
        system.start_worker()
        system.env["PYTHONPATH"] = known
        study = write(system, STUDY.replace("60", "3"))
        assert system.call("submit", str(study), "--wait").returncode == 1
        assert {row["reason"] for row in system.json("results")} == {"broken-kind"}
        said = system.ok("logs", system.json("results")[0]["job"])
        assert "on this worker, no kind 'sums' is installed" in said
        letters = system.json("dead")
        assert len(letters) == 3
        assert "no kind 'sums' is installed" in letters[0]["reason"]
        # installed by now
        system.start_worker("next")
        system.daemons["worker"].terminate()
        system.daemons["worker"].wait(60)
        system.ok("retry", "sums")
        system.ok("watch", "sums")
        assert [row["sum"] for row in system.json("results")] == [11, 22, 33]
    finally:
        system.stop()


def test_run_takes_their_kind_and_their_runtime(tmp_path: Path) -> None:
    system = System(tmp_path)
    study = write(system, STUDY.replace("60", "3"))
    system.ok("run", str(study), "--runtime", "noted")
    assert [row["sum"] for row in system.json("results")] == [11, 22, 33]
    assert "sums" in json.loads(system.ok("schema"))["properties"]
    assert "2 runs each" in system.ok("verify", str(study), "--runs", "2", "--runtime", "noted")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("terms", "trems"), "study.yaml:4: sums.trems: unknown field; did you mean 'terms'?"),
        (("kind: sums", "kind: sms"), "no kind 'sms' is installed; did you mean 'sums'?"),
        (("kind: sums", "kind: torn"), "the kind 'torn' (theirs_torn:Study) cannot be loaded"),
    ],
)
def test_slips_are_told_as_those_of_our_kinds(
    change: tuple[str, str], said: str, tmp_path: Path
) -> None:
    system = System(tmp_path)
    done = system.call("check", str(write(system, STUDY.replace(*change))))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_their_adapter_runs_the_contract(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(CONTRACT)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", SOME],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(THEIRS)}, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
