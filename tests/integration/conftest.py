"""What several files want: databases, and the tables that `run` makes of the examples."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from queue_runner.brokers import connect
from queue_runner.collector.database import Database
from queue_runner.errors import MissingTool
from queue_runner.store import open_store
from queue_runner.workers.bundles import Bundles
from queue_runner.workers.runtimes.process import ProcessRuntime
from queue_runner.workers.workplace import Workplace
from tests.integration.bench import Bench, collecting
from tests.integration.lab import Lab
from tests.integration.postgres import Postgres, running_postgres
from tests.integration.system import Tables, embedded_tables
from tests.requirements import missing


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """What two of the examples come to with `run`: once for all the processes that run tests."""
    mine = tmp_path_factory.getbasetemp()
    shared = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    with (shared / "embedded.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = shared / "embedded.json"
        if not made.exists():
            made.write_text(json.dumps(embedded_tables(tmp_path_factory.mktemp("embedded"))))
        tables: Tables = json.loads(made.read_text())
    return tables


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    """Of a worker with the process runtime; nothing is left of it in the end."""
    runtime = ProcessRuntime(tmp_path / "scratch")
    store = open_store(str(tmp_path / "store"))
    yield Workplace(
        "w", runtime, "process", store, Bundles(store, runtime.folder / "bundles"),
        runtime.folder, tmp_path / "kept", "none",
    )  # fmt: skip
    runtime.close()
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.fixture
def lab(zeromq_url: str, tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(tmp_path, zeromq_url, stack)


@pytest.fixture
def bench(broker_url: str, tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        broker = stack.enter_context(connect(broker_url))
        database = stack.enter_context(closing(Database(f"sqlite:///{tmp_path}/collector.sqlite")))
        stack.enter_context(collecting(broker, database))
        yield Bench(broker, database, tmp_path)


@pytest.fixture(scope="session")
def _postgres() -> Iterator[Postgres]:
    try:
        with running_postgres() as server:
            yield server
    except MissingTool as error:
        missing(error)


@pytest.fixture
def postgres_url(_postgres: Postgres) -> str:
    """An empty database of its own."""
    return _postgres.new_database()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/collector.sqlite"
    url: str = request.getfixturevalue("postgres_url")
    return url
