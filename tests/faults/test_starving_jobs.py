"""Jobs that leave nothing to anybody else: their worker keeps its leases all the same."""

from __future__ import annotations

import os
from pathlib import Path

from tests.integration.system import System, running_system

#: Seconds of a lease, and of a job.
LEASE_S, JOB_S = 2, 12
GREEDY = f"""\
#!/bin/sh
echo run >> "$1"
for each in $(seq {4 * len(os.sched_getaffinity(0))}); do (while :; do :; done) & done
sleep {JOB_S}
kill $(jobs -p)
echo y = 1
"""
#: The C library's own `sleep`, called as what never lets go of the interpreter.
HOLDING = f"""\
import ctypes
def hold(runs):
    with open(runs, "a") as file: file.write("run\\n")
    return {{"y": ctypes.PyDLL(None).sleep({JOB_S}) + 1}}
"""
STUDIES = {
    "greedy": 'command: {files: ., run: [./greedy.sh, "{runs}"]}\nmeasure: {log: {y: "y = (.)"}}\n',
    "holding": "python: {files: ., call: holding:hold}\n",
}


def submit(system: System, name: str, kind: str) -> Path:
    folder = system.folder / name
    folder.mkdir()
    runs = system.folder / f"{name}.runs"
    head = f"study: {name}\nkind: {kind}\nparameters: {{runs: ['{runs}']}}\n"
    (folder / "study.yaml").write_text(head + STUDIES[name])
    (folder / "greedy.sh").write_text(GREEDY)
    (folder / "greedy.sh").chmod(0o755)
    (folder / "holding.py").write_text(HOLDING)
    system.ok("submit", str(folder / "study.yaml"))
    return runs


def test_leases_outlast_jobs_that_take_every_core_and_the_interpreter(
    broker_url: str, tmp_path: Path
) -> None:
    with running_system(tmp_path, broker_url, "--cores", "2", "--lease", str(LEASE_S)) as system:
        runs = {name: submit(system, name, kind) for name, kind in
                (("greedy", "command"), ("holding", "python"))}  # fmt: skip
        for name, each in runs.items():
            system.ok("submit", str(tmp_path / name / "study.yaml"), "--wait", timeout_s=100)
            (row,) = system.json("results", name)
            assert (row["state"], row["attempt"], row["y"]) == ("succeeded", 1, 1)
            assert each.read_text() == "run\n"
        assert "lease was lost" not in system.log("worker")
