"""docker-compose.yml: the whole system in containers, driven from outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from queue_runner.testing.servers.ports import free_port
from tests.integration.system import (
    EXAMPLES,
    System,
    Tables,
    eventually,
    submitted_table,
)

pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PROFILES = ("rabbitmq", "redis", "zeromq")
DAEMONS = {"collector", "worker-openfoam", "worker-mpi", "backup"}


COMPOSE_1 = "docker-compose"
COMPOSE_2 = str(ROOT / ".cache/compose2/docker-compose")


class Project:
    """A copy of the compose file with ports and secrets of its own."""

    def __init__(self, folder: Path, profile: str, program: str) -> None:
        self.folder, self.profile = folder, profile
        ports = {f"{name.upper()}_PORT": str(free_port()) for name in (*PROFILES, "collector")}
        self.env = os.environ | ports
        (folder / "scripts").mkdir()
        shutil.copy(ROOT / "docker-compose.yml", folder)
        shutil.copy(ROOT / "scripts/secrets", folder / "scripts")
        subprocess.run([folder / "scripts/secrets"], env=self.env, check=True)
        self.name = f"test{uuid.uuid4().hex[:8]}"
        self._compose = [program, "-p", self.name, "--profile", profile]

    def compose(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._compose, *arguments],
            cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def states(self) -> dict[str, dict[str, Any]]:
        """Of each service's container, as the engine tells it."""
        label = f"label=com.docker.compose.project={self.name}"
        asked = ["docker", "ps", "-a", "-q", "--filter", label]
        ids = subprocess.run(asked, capture_output=True, check=True, text=True).stdout.split()
        done = subprocess.run(["docker", "inspect", *ids], capture_output=True, check=True)
        return {
            each["Config"]["Labels"]["com.docker.compose.service"]: each["State"]
            for each in json.loads(done.stdout)
        }

    def all_healthy(self) -> bool:
        states = self.states()
        return all(
            states.get(name, {}).get("Health", {}).get("Status") == "healthy"
            for name in (DAEMONS | {self.profile}) - {"backup"}
        )

    def stop(self) -> None:
        """All at once: the broker's name is gone before the daemons are. None may have to be killed."""
        self.compose("stop", "-t", "20")
        codes = {name: state["ExitCode"] for name, state in self.states().items()}
        assert codes.keys() >= DAEMONS | {self.profile}
        assert set(codes.values()) == {0}, codes

    def client(self, folder: Path) -> System:
        system = System(folder)
        secrets = self.folder / "secrets"
        system.env |= {
            "QUEUE_RUNNER_BROKER_FILE": str(secrets / f"{self.profile}_url_outside"),
            "QUEUE_RUNNER_TOKEN_FILE": str(secrets / "token"),
            "QUEUE_RUNNER_KEYS_FILE": str(secrets / "keys/keys.json"),
            "QUEUE_RUNNER_COLLECTOR": f"http://127.0.0.1:{self.env['COLLECTOR_PORT']}",
        }
        return system


@contextmanager
def project(
    folder: Path, profile: str, program: str = COMPOSE_1, layers: Sequence[Sequence[str]] = ((),)
) -> Iterator[Project]:
    """layers: services to bring up together, one layer after the other; all of them by default."""
    folder.mkdir()
    made = Project(folder, profile, program)
    try:
        for services in layers:
            made.compose("up", "-d", *services)
        eventually(made.all_healthy, within_s=120.0)
        yield made
        made.stop()
    except AssertionError:
        print(made.compose("logs", "--tail", "30"))
        raise
    finally:
        made.compose("down", "-v", "-t", "20")


@pytest.mark.openfoam
@pytest.mark.parametrize(
    ("program", "profile"),
    [
        *((COMPOSE_1, profile) for profile in PROFILES),
        pytest.param(COMPOSE_2, "redis", marks=pytest.mark.compose2),
    ],
    ids=[*PROFILES, "redis-compose-v2"],
)
def test_examples_give_the_same_digits_in_containers(
    program: str, profile: str, tmp_path: Path, embedded: Tables
) -> None:
    with project(tmp_path / "compose", profile, program) as made:
        system = made.client(tmp_path)
        # Compose v2 brings up the same containers; what they compute has been seen with v1
        examples = embedded if program == COMPOSE_1 else {"cavity": embedded["cavity"]}
        for example, expected in examples.items():
            assert submitted_table(system, EXAMPLES / example / "study.yaml") == expected


LAYERS = [["choose-zeromq", "zeromq"], ["collector"], ["worker-openfoam", "worker-mpi"], ["backup"]]


def test_one_layer_at_a_time_and_a_backup_is_a_whole_database(tmp_path: Path) -> None:
    with project(tmp_path / "compose", "zeromq", layers=LAYERS) as made:
        arguments = ["backup", "--to", "/backups", "--keep", "1"]
        made.compose("exec", "-T", "backup", "queue-runner", *arguments)
        copies = made.compose("exec", "-T", "backup", "sh", "-c", "ls /backups").split()
        assert len(copies) == 1
        check = "import sqlite3,sys; print(*sqlite3.connect(sys.argv[1]).execute('pragma integrity_check'))"
        python = "/opt/queue-runner/bin/python"
        said = made.compose("exec", "-T", "backup", python, "-c", check, f"/backups/{copies[0]}")
        assert "ok" in said
