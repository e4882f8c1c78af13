"""Jobs longer than RabbitMQ's consumer_timeout lets a delivery be held."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from queue_runner.testing.servers.local import LocalServer
from queue_runner.testing.servers.recipes import rabbitmq
from tests.faults.servers import FaultServer, named
from tests.integration.system import System, eventually, study_folder

pytestmark = pytest.mark.timeout(500)

#: A minute, which is as often as the server looks.
TIMEOUT_MS, JOB_S = 60_000, 150
#: The first run takes longer than the server allows by two of its looks.
STUDY = """\
study: long
kind: command
parameters: {x: [1]}
command: {files: ., run: [./long.sh, "{x}"]}
"""
LONG = f"""\
#!/bin/sh
echo run >> "%s"
[ $(wc -l < "%s") -gt 1 ] || sleep {JOB_S}
"""


@pytest.fixture
def stock_url(tmp_path: Path) -> Iterator[str]:
    """A server with nothing of our configuration, and little patience."""
    folder = tmp_path / "rabbitmq"
    folder.mkdir()
    launch = rabbitmq(folder)
    with (folder / "rabbitmq.conf").open("a") as conf:
        conf.write(f"consumer_timeout = {TIMEOUT_MS}\n")
    server = LocalServer(launch, folder)
    try:
        server.start()
        yield launch.url
    finally:
        server.close()


def made(folder: Path, url: str, hold_s: int) -> System:
    folder.mkdir()
    return System(folder, f"{url}?prefix=hold-{hold_s}&hold_s={hold_s}")


def start(system: System) -> None:
    system.start_collector()
    system.start_worker()
    runs = str(system.folder / "runs")
    study = study_folder(system, STUDY, long__sh=LONG % (runs, runs))
    system.ok("submit", str(study))


@pytest.mark.containers
@pytest.mark.parametrize("server", named("rabbitmq"), indirect=True)
def test_our_own_servers_let_it_be_held_for_a_day(server: FaultServer) -> None:
    asked = "application:get_env(rabbit, consumer_timeout)."
    assert "{ok,86400000}" in server.call("rabbitmqctl", "-q", "eval", asked)


def test_a_job_longer_than_consumer_timeout_runs_once_and_is_recorded_once(
    stock_url: str, tmp_path: Path
) -> None:
    """Beside it, at the same time, one that is held too long: it is taken away, and still recorded once."""
    systems = {}
    try:
        for name, hold_s in (("swapped", 10), ("held", 600)):
            systems[name] = made(tmp_path / name, stock_url, hold_s)
            start(systems[name])
        found = {}
        for name, system in systems.items():
            (row,) = eventually(partial(system.json, "results", "long"), within_s=2 * JOB_S)
            runs = (system.folder / "runs").read_text().count("run")
            (status,) = system.json("status", "long")["studies"]
            found[name] = (row["state"], row["attempt"], runs, status["succeeded"], status["total"])
        assert found == {
            "swapped": ("succeeded", 1, 1, 1, 1),
            "held": ("succeeded", 2, 2, 1, 1),
        }
        # its second run may be over before the worker has asked for its leases again
        eventually(lambda: "lease was lost" in systems["held"].log("worker"), within_s=60)
        assert "lease was lost" not in systems["swapped"].log("worker")
    finally:
        for system in systems.values():
            system.stop()
