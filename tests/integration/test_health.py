"""`queue-runner health`, as the health check of a container asks."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.integration.system import System, eventually, running_system, study_folder


def worker_health(system: System) -> int:
    scratch = str(system.folder / "scratch")
    return system.call("health", "worker", "--scratch", scratch).returncode


def test_daemons_tell_how_they_are(tmp_path: Path, zeromq_url: str) -> None:
    # longer than the address of a Unix socket may be
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    with running_system(folder, zeromq_url, "--cores", "2") as system:
        eventually(lambda: worker_health(system) == 0)
        scratch = str(folder / "scratch")
        (report,) = json.loads(system.ok("health", "worker", "--scratch", scratch, "--json"))
        assert report["worker"] == "worker"
        assert report["state"] == "working"
        assert report["cores_free"] == 2
        assert "well" in system.ok("health", "worker", "--scratch", scratch)
        system.ok("health", "collector")
        system.ok("health", "broker")
    assert worker_health(system) == 3
    assert system.call("health", "collector").returncode == 3
    assert list((folder / "scratch").iterdir()) == []


def test_a_worker_that_was_killed_does_not_answer(tmp_path: Path, zeromq_url: str) -> None:
    with running_system(tmp_path, zeromq_url) as system:
        eventually(lambda: worker_health(system) == 0)
        worker = system.daemons["worker"]
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        assert worker_health(system) == 3
        system.start_worker("next")
        eventually(lambda: worker_health(system) == 0)


def test_a_worker_that_is_busy_is_well(tmp_path: Path, zeromq_url: str) -> None:
    with running_system(tmp_path, zeromq_url, "--grace", "0") as system:
        study = "study: busy\nkind: command\nparameters: {x: [1]}\ncommand: {run: [sleep, '600']}\n"
        system.ok("submit", str(study_folder(system, study)))
        scratch = str(system.folder / "scratch")

        eventually(lambda: worker_health(system) == 0)

        def running() -> list[str]:
            (report,) = system.json("health", "worker", "--scratch", scratch)
            return [str(name) for name in report["running"]]

        (name,) = eventually(running)
        assert name.startswith("busy-")
        assert name.endswith(".0000000")
