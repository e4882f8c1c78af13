"""The benchmark measures, says so, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "benchmarks" / "bench.py"
_MARK = "QUEUE_RUNNER_TEST_OF_BENCH"
_CONTENDER = """
import subprocess
from measure.contender import Contender

class Leaves(Contender):
    def measure(self, workload, effort):
        # a daemon: in a session of its own, and its parent gone
        subprocess.run(["sh", "-c", "setsid sleep 600 & exit 0"], check=True)
        print("what it said last", flush=True)
        if workload == "hang":
            subprocess.run(["sleep", "600"])
        if workload == "die":
            raise SystemExit(3)
        return {"count": 1}
"""
_HARNESS = """
import sys
from pathlib import Path
from measure.contender import Effort, Place
from measure.session import ContenderFailed, Session, adopt_orphans, nothing_left

folder = Path(sys.argv[1])
adopt_orphans()
with nothing_left():
    place = Place(folder, 1, {})
    with Session(Path(sys.executable), "leaves:Leaves", place, {}, folder / "log") as session:
        session.start()
        try:
            print(session.measure(sys.argv[2], Effort(1.0), 3.0))
        except ContenderFailed as error:
            print(error)
"""


def marked() -> dict[str, str]:
    return {_MARK: uuid.uuid4().hex}


def left_with(mark: Mapping[str, str]) -> list[str]:
    """Processes that carry the mark in their environment."""
    return [
        " ".join(process.cmdline())
        for process in psutil.process_iter()
        if (environ := _environ(process)) and environ.get(_MARK) == mark[_MARK]
    ]


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return {}


@pytest.mark.slow
def test_a_short_run_has_all_its_figures(tmp_path: Path) -> None:
    mark = marked()
    out, plot, table = tmp_path / "out.json", tmp_path / "out.png", tmp_path / "out.md"
    who = "queue-runner/zeromq,limit/zeromq-echo,limit/posix-spawn,limit/sqlite-rows"
    command = [
        sys.executable, str(BENCH), "--workloads", "noop,true,latency", "--only", who,
        "--rounds", "2", "--seconds", "0.2",
        "--json", str(out), "--plot", str(plot), "--table", str(table),
    ]  # fmt: skip
    done = subprocess.run(command, env=os.environ | mark, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(out.read_text())
    measured = {(each["workload"], each["contender"], each["round"]) for each in told["measured"]}
    assert measured == {
        (workload, contender, number)
        for workload, contender in [
            ("noop", "queue-runner/zeromq"), ("true", "queue-runner/zeromq"),
            ("latency", "queue-runner/zeromq"), ("noop", "limit/zeromq-echo"),
            ("noop", "limit/sqlite-rows"), ("true", "limit/posix-spawn"),
        ]
        for number in (1, 2)
    }  # fmt: skip
    assert all(value > 0 for each in told["measured"] for value in each["figures"].values())
    (spawning,) = (row for row in told["bounds"] if row["what"] == "true, zeromq: bare posix_spawn")
    assert spawning["holds"] is not None
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert table.read_text() in done.stdout
    assert left_with(mark) == []


def test_the_legs_of_lone_jobs_are_told_and_nothing_is_left() -> None:
    mark = marked()
    command = [sys.executable, str(ROOT / "benchmarks/latency/run.py"), "--jobs", "3", "zmq"]
    done = subprocess.run(command, env=os.environ | mark, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    head, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()
    ]
    assert head == ["ms, median", "zmq"]
    assert {"**all**", "broker: to the worker", "*CPU time:* collector"} <= {row[0] for row in rows}
    assert all(float(figure) >= 0 for _, figure in rows)
    assert left_with(mark) == []


@pytest.mark.parametrize(
    ("workload", "said"),
    [("fine", "{'count': 1}"), ("hang", "measure: no answer in 3 s"), ("die", "ended in measure")],
)
def test_nothing_is_left_of_a_contender_however_it_ends(
    tmp_path: Path, workload: str, said: str
) -> None:
    mark = marked()
    (tmp_path / "leaves.py").write_text(_CONTENDER)
    path = os.pathsep.join([str(ROOT / "benchmarks"), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-c", _HARNESS, str(tmp_path), workload],
        env=os.environ | mark | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert "what it said last" in done.stdout + (tmp_path / "log").read_text()
    assert left_with(mark) == []


def test_what_is_missing_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH), "--only", "celery", "--peers", str(tmp_path / "python")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        f"bench: no {tmp_path}/python: `scripts/bench-peers` makes the peers' virtual environment\n"
    )
