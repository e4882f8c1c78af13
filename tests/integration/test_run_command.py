"""`queue-runner run` as a user meets it: results, failures, interruption, resumption."""

from __future__ import annotations

import csv
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.system import System, eventually, study_folder

COUNTING = """\
study: counting
kind: command
parameters:
  x: {range: {from: 1, to: 12, step: 1}}
command:
  files: .
  run: [./job.sh, "{x}"]
measure:
  log: {y: 'y = (\\S+)'}
"""
# says in a file outside its work folder that it ran, so that runs can be counted
COUNTING_SCRIPT = """\
#!/bin/sh
echo "$1" >> {ledger}
[ "$1" -gt 4 ] && while [ ! -e {gate} ]; do sleep 0.05; done
echo "y = $(($1 * $1))"
"""


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for temporary files, at a path that leaves room for sockets in it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def counting(system: System) -> tuple[str, Path, Path]:
    ledger, gate = system.folder / "ledger", system.folder / "gate"
    script = COUNTING_SCRIPT.format(ledger=ledger, gate=gate)
    return str(study_folder(system, COUNTING, job__sh=script)), ledger, gate


def lines(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_a_run_ends_with_table_plot_and_place(system: System) -> None:
    study, _, gate = counting(system)
    gate.touch()
    done = system.call("run", study)
    assert done.returncode == 0, done.stderr
    assert "12 of 12 succeeded. Everything is in runs/counting-" in done.stdout
    (folder,) = (system.folder / "runs").glob("counting-*")
    with (folder / "results.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [(int(row["x"]), int(row["y"])) for row in rows] == [(x, x * x) for x in range(1, 13)]
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")

    told = system.json("plot", "--out", "again.png")
    assert (told["out"], told["x"], told["y"]) == ("again.png", "x", "y")
    assert (system.folder / "again.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_was_ended_goes_on_where_it_stopped(
    system: System, short: Path, how: signal.Signals
) -> None:
    system.env["TMPDIR"] = str(short)
    study, ledger, gate = counting(system)
    first = system.popen("run", study, "--cores", "2")
    eventually(lambda: {5, 6} <= set(lines(ledger)))
    eventually(lambda: system.json("status")["studies"][0]["succeeded"] == 4)
    first.send_signal(how)
    assert first.wait(30) == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    gate.touch()

    done = system.call("run", study, "--cores", "2")

    assert done.returncode == 0, done.stderr
    assert "12 of 12 succeeded" in done.stdout
    ran = lines(ledger)
    assert {x: ran.count(x) for x in range(1, 13)} == {
        x: 2 if x in (5, 6) else 1 for x in range(1, 13)
    }
    eventually(lambda: not list(short.iterdir()))


def test_a_run_that_is_over_runs_nothing_again(system: System) -> None:
    study, ledger, gate = counting(system)
    gate.touch()
    system.ok("run", study)
    before = lines(ledger)
    assert "12 of 12 succeeded" in system.ok("run", study)
    assert lines(ledger) == before


def test_two_runs_of_one_study_do_not_meet(system: System) -> None:
    study, ledger, gate = counting(system)
    first = system.popen("run", study)
    eventually(lambda: lines(ledger))
    second = system.call("run", study)
    gate.touch()
    assert second.returncode == 2
    assert f"another queue-runner (process {first.pid}) is running this study" in second.stderr
    assert first.wait(60) == 0


FAILING = """\
study: failing
kind: command
parameters:
  how: [fine, code, signal, slow, absent, unmeasured]
command:
  files: .
  run: ["{'./nosuch' if how == 'absent' else './job.sh'}", "{how}"]
measure:
  log: {y: 'y = (\\S+)'}
resources: {wall_time: 1 s}
"""
FAILING_SCRIPT = """\
#!/bin/sh
echo "about to end: $1"
case $1 in
  code) exit 3;;
  signal) kill -SEGV $$;;
  slow) sleep 60;;
  unmeasured) exit 0;;
esac
echo "y = 1"
"""


def test_failures_are_shown_with_reason_and_log_and_the_rest_goes_on(system: System) -> None:
    study = str(study_folder(system, FAILING, job__sh=FAILING_SCRIPT))
    done = system.call("run", study)
    assert done.returncode == 1
    assert "1 of 6 succeeded, 5 failed" in done.stdout
    assert "about to end: code" in done.stdout
    assert "index" in done.stdout
    quiet = system.call("run", study, "-q")
    assert quiet.returncode == 1
    assert "about to end: code" in quiet.stdout
    assert "index" not in quiet.stdout
    (study_status,) = system.json("status")["studies"]
    rows = {row["how"]: row for row in json.loads(system.ok("results", "--json"))}
    assert study_status["failed"] == 5
    assert {how: row.get("reason") for how, row in rows.items()} == {
        "fine": None,
        "code": "exit-code",
        "signal": "signal",
        "slow": "wall-time",
        "absent": "missing-program",
        "unmeasured": "metrics",
    }
    log = system.ok("logs", rows["code"]["job"])
    assert "exit-code: " in log
    assert "about to end: code" in log


RETRYING = """\
study: retrying
kind: command
parameters: {x: [1]}
command: {files: ., run: [./job.sh]}
retries: {count: 3, on: [exit-code], first: 0.1 s}
"""


def test_retries_happen_as_asked(system: System) -> None:
    ledger = system.folder / "ledger"
    script = f'#!/bin/sh\necho 1 >> {ledger}\n[ "$(wc -l < {ledger})" -ge 3 ]\n'
    study = str(study_folder(system, RETRYING, job__sh=script))
    system.ok("run", study)
    (row,) = json.loads(system.ok("results", "--json"))
    assert (row["state"], row["attempt"], len(lines(ledger))) == ("succeeded", 3, 3)


def test_failed_jobs_are_run_again_on_demand(system: System) -> None:
    gate = system.folder / "gate"
    script = f"#!/bin/sh\n[ -e {gate} ]\n"
    study = str(study_folder(system, RETRYING.replace("count: 3", "count: 0"), job__sh=script))
    assert system.call("run", study).returncode == 1
    gate.touch()
    assert "1 jobs enqueued again" in system.ok("retry", "retrying")
    assert "1 of 1 succeeded" in system.ok("run", study)


def test_a_running_study_is_cancelled_from_elsewhere(system: System) -> None:
    study, ledger, _ = counting(system)
    running = system.popen("run", study)
    eventually(lambda: lines(ledger))
    system.ok("cancel", "counting")
    assert running.wait(30) == 0
    (status,) = system.json("status")["studies"]
    assert status["cancelled"] + status["succeeded"] == 12
    assert status["cancelled"] >= 8


def test_a_job_too_large_for_this_machine_is_refused(system: System) -> None:
    study = str(
        study_folder(system, RETRYING + "resources: {cores: 4000}\n", job__sh="#!/bin/sh\n")
    )
    done = system.call("run", study)
    assert done.returncode == 2
    assert "a job needs 4000 cores" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_is_left_behind(system: System) -> None:
    study, ledger, _ = counting(system)
    run = system.popen("run", study)
    eventually(lambda: set(lines(ledger)) >= {5, 6})
    run.send_signal(signal.SIGINT)
    run.wait(30)
    marker = str(ledger).encode()
    left = [
        path
        for path in Path("/proc").glob("[0-9]*")
        if path.name != str(os.getpid()) and marker in _command_line(path)
    ]
    assert left == []


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_changed_study_is_another_one_and_that_is_said(system: System) -> None:
    study = study_folder(system, RETRYING, job__sh="#!/bin/sh\n")
    assert "jobs are there already" not in system.call("run", str(study)).stderr
    again = system.call("run", str(study))
    assert "1 of 1 jobs are there already" in again.stderr
    study.write_text(RETRYING.replace("[1]", "[1, 2]"))
    changed = system.call("run", str(study))
    assert "is new: the study differs from retrying-" in changed.stderr
    assert "2 of 2 succeeded" in changed.stdout
    assert len(system.json("status")["studies"]) == 2


def test_a_folder_that_cannot_be_made_is_named(system: System) -> None:
    study = study_folder(system, RETRYING, job__sh="#!/bin/sh\n")
    (system.folder / "file").touch()
    done = system.call("run", str(study), "--folder", "file/x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "queue-runner: file/x: cannot be made: Not a directory. Choose another --folder.\n"
    )


def test_a_table_that_cannot_be_written_is_named(system: System) -> None:
    study = study_folder(system, RETRYING, job__sh="#!/bin/sh\n")
    system.ok("run", str(study))
    (run,) = (system.folder / "runs").glob("retrying-*")
    (run / "results.csv").unlink()
    (run / "results.csv").mkdir()
    done = system.call("run", str(study))
    assert done.returncode == 2
    assert "results.csv: cannot be written: Is a directory. The results are safe" in done.stderr


def test_json_is_all_that_stdout_holds(system: System) -> None:
    study = study_folder(system, RETRYING, job__sh="#!/bin/sh\n")
    summary = system.json("run", str(study))
    assert summary["succeeded"] == len(summary["results"]) == 1
    for command in (["status"], ["results"], ["logs", summary["results"][0]["job"]], ["doctor"]):
        assert system.json(*command)
