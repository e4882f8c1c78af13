"""A throwaway PostgreSQL: Debian's own, as the user it insists on."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text

from queue_runner.errors import MissingTool
from queue_runner.testing.servers.ports import free_port


class Postgres:
    """One server with its data in `folder`; `start` and `stop` keep them."""

    def __init__(self, binaries: Path, folder: str, user: str | None) -> None:
        self._binaries, self._folder, self._user = binaries, folder, user
        self._port = free_port()
        self.running = False
        self._call("initdb", "--auth=trust", "--username=postgres", "--no-sync")

    def start(self) -> None:
        options = (
            f"-p {self._port} -c listen_addresses=127.0.0.1"
            f" -c unix_socket_directories={self._folder}"
        )
        self._call("pg_ctl", "-w", "-l", f"{self._folder}/log", "-o", options, "start")
        self.running = True

    def stop(self, mode: str = "immediate") -> None:
        """`fast` ends what is under way, `immediate` is as good as SIGKILL."""
        self._call("pg_ctl", "-m", mode, "stop")
        self.running = False

    def new_database(self) -> str:
        """The URL of an empty one."""
        name = f"test_{uuid.uuid4().hex}"
        server = f"postgresql+psycopg://postgres@127.0.0.1:{self._port}"
        engine = create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return f"{server.replace('+psycopg', '')}/{name}"

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), "-D", f"{self._folder}/data", *arguments]
        done = subprocess.run(
            command, user=self._user, cwd=self._folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Raises `MissingTool`."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        raise MissingTool("no PostgreSQL (on Debian or Ubuntu: apt-get install postgresql)")
    # it refuses to run as root
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="queue-runner-") as folder:
        if user is not None:
            shutil.chown(folder, user)
        server = Postgres(binaries[-1], folder, user)
        server.start()
        try:
            yield server
        finally:
            if server.running:
                server.stop()
