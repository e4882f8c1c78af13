"""A job that takes its workers down is given up, and does not go round for ever."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path

from tests.integration.system import System, eventually, study_folder

STUDY = """\
study: killer
kind: command
parameters: {x: [1, 2]}
command: {files: ., run: [./job.sh, "{x}"]}
"""
#: Twelve lives are more than a job may take.
LIVES = 12


def _one_ended(*processes: subprocess.Popen[bytes]) -> bool:
    return any(process.poll() is not None for process in processes)


def test_a_job_that_kills_its_workers_is_given_up(zeromq_url: str, tmp_path: Path) -> None:
    system = System(tmp_path, zeromq_url)
    try:
        system.start_collector()
        script = f'#!/bin/sh\n[ "$1" = 2 ] || {{ echo x >> {tmp_path}/deaths; kill -9 $PPID; }}\n'
        system.ok("submit", str(study_folder(system, STUDY, job__sh=script)))
        watching = system.popen("watch", "killer")
        for life in range(LIVES):
            worker = system.start_worker(f"worker-{life}", "--lease", "1", "--cores", "1")
            # as a supervisor would: a worker that dies is followed by another
            eventually(partial(_one_ended, worker, watching))
            if watching.poll() is not None:
                break
        rows = {row["x"]: row for row in json.loads(system.ok("results", "--json"))}
        assert rows[2]["state"] == "succeeded"
        assert (rows[1]["state"], rows[1]["reason"]) == ("failed", "worker-lost")
        assert len((tmp_path / "deaths").read_text().split()) == rows[1]["attempt"] - 1
        assert "memory" in system.ok("logs", rows[1]["job"])
    finally:
        system.stop()
