"""A Docker engine that ends while jobs run in its containers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from queue_runner.images.engine import open_engine
from tests.integration.system import (
    SLEEPER,
    System,
    containers_of,
    docker_worker,
    eventually,
    study_folder,
    submitted_table,
)

pytestmark = [pytest.mark.containers, pytest.mark.timeout(400)]
ROOT = Path(__file__).parents[2]
BASE = "queue-runner/base:latest"

#: Long enough for what it is in to be killed.
PATIENT = """\
#!/bin/sh
trap 'exit 0' TERM
[ $1 = 1 ] && sleep 8
echo y = $1
"""


@pytest.fixture
def engine() -> Iterator[DockerClient]:
    with open_engine() as client:
        yield client


@contextmanager
def private_engine(folder: Path) -> Iterator[Path]:
    """An engine of the test's own, to be killed: a copy of our script is another engine."""
    (folder / "scripts").mkdir(parents=True)
    script = folder / "scripts" / "engine"
    script.write_bytes((ROOT / "scripts/engine").read_bytes())
    script.chmod(0o755)
    env = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
    # not the one that is there already
    env["XDG_RUNTIME_DIR"] = str(folder / "none")
    try:
        yield script
    finally:
        subprocess.run([script, "stop"], env=env, check=True)


def subnet(engine: DockerClient) -> str:
    bridge = engine.networks.list(names=["bridge"], greedy=True)[0]
    return str(bridge.attrs["IPAM"]["Config"][0]["Subnet"])


@pytest.mark.root
@pytest.mark.parametrize(
    ("how", "options"),
    # the engine's SIGTERM does not reach what runs in a warm container, which may end well meanwhile
    [(signal.SIGKILL, ()), (signal.SIGTERM, ()), (signal.SIGKILL, ("--warm",))],
    ids=["killed", "shut down", "killed, warm"],
)
def test_an_engine_that_ends_fails_no_job(
    how: signal.Signals,
    options: tuple[str, ...],
    tmp_path: Path,
    zeromq_url: str,
    engine: DockerClient,
) -> None:
    with private_engine(tmp_path / "engine") as script:
        env = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}

        def start() -> str:
            done = subprocess.run(
                [script, "start"], env=env, capture_output=True, text=True, check=True
            )
            return done.stdout.strip()

        host = start()
        if "engine/.cache" not in host and "/run/queue-runner" not in host:
            pytest.fail(f"another engine answered: {host}")
        with closing(DockerClient(host)) as other:
            assert subnet(other) != subnet(engine)
            other.images.load(b"".join(engine.images.get(BASE).save(named=True)))
        system = System(tmp_path, zeromq_url)
        system.env["DOCKER_HOST"] = host
        try:
            system.start_collector()
            docker_worker(system, "worker", *options)
            study = study_folder(system, SLEEPER, job__sh=PATIENT)
            known = json.loads(system.ok("submit", str(study), "--json"))["study"]
            with closing(DockerClient(host)) as other:
                eventually(lambda: containers_of(other, system, known) or None)
            pid = int((tmp_path / "engine/.cache/engine/dockerd.pid").read_text())
            os.kill(pid, how)
            eventually(lambda: "given back" in system.log("worker") or None)
            start()
            rows = submitted_table(system, study)
            assert [row["state"] for row in rows] == ["succeeded"] * 2
            with closing(DockerClient(host)) as other:

                def left() -> list[Any]:
                    found = containers_of(other, system, known)
                    # those of a warm worker wait for more
                    return [each for each in found if not options or each.status != "running"]

                eventually(lambda: left() == [])
        finally:
            system.stop()
