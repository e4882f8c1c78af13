"""A throwaway PostgreSQL: Debian's own, as the user it insists on, gone with the session."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from queue_runner.errors import MissingTool
from queue_runner.testing.servers.recipes import free_port


@pytest.fixture(scope="session")
def _postgres() -> Iterator[str]:
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        text_ = "no PostgreSQL (on Debian or Ubuntu: apt-get install postgresql)"
        if os.environ.get("QUEUE_RUNNER_TESTS_REQUIRE") == "all":
            raise MissingTool(text_)
        pytest.skip(text_)
    # it refuses to run as root
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="queue-runner-") as folder:
        if user is not None:
            shutil.chown(folder, user)
        data, port = f"{folder}/data", free_port()
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"

        def call(program: str, *arguments: str) -> None:
            command = [str(binaries[-1] / program), "-D", data, *arguments]
            done = subprocess.run(
                command, user=user, cwd=folder, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"

        call("initdb", "--auth=trust", "--username=postgres", "--no-sync")
        call("pg_ctl", "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://postgres@127.0.0.1:{port}"
        finally:
            call("pg_ctl", "-m", "immediate", "stop")


@pytest.fixture
def postgres_url(_postgres: str) -> str:
    """An empty database of its own."""
    name = f"test_{uuid.uuid4().hex}"
    engine = create_engine(f"{_postgres}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{_postgres.replace('+psycopg', '')}/{name}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/collector.sqlite"
    url: str = request.getfixturevalue("postgres_url")
    return url
