"""Tables of the collector's database, and how to connect to it.

`result` holds the one final result of each job, `attempt` every other one that was reported. Counters
stand in `study`, so that a status needs no counting. `arrival` numbers the final results of a study in
the order in which they were committed, for followers.
"""

from __future__ import annotations

import sqlite3
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    inspect,
    select,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from queue_runner.collector.flushing import WriteAheadLog
from queue_runner.errors import CollectorUnavailable, FixThis, MissingTool

SCHEMA_VERSION = 1
#: Seconds that a statement waits for another process's transaction on the same SQLite file.
_BUSY_S = 30.0

metadata = MetaData()
schema = Table("schema", metadata, Column("version", Integer, nullable=False))
study = Table(
    "study",
    metadata,
    Column("id", String(200), primary_key=True),
    # false while only results have come, and the study itself is still on its way
    Column("known", Boolean, nullable=False),
    Column("name", Text, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("submitted", BigInteger, nullable=False),
    Column("succeeded", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("cancelled", BigInteger, nullable=False),
    Column("arrivals", BigInteger, nullable=False),
    Column("submitted_at", Float, nullable=False),
    Column("last_result_at", Float),
    Column("kind", Text, nullable=False),
    Column("record", LargeBinary),
    # whether `total` is how many rows of `point` it has; null in databases that are older than open studies
    Column("open", Boolean),
    # who asks for a study says its id or its name
    Index("study_by_name", "name", "submitted_at"),
)
#: Of open studies: what their jobs were made of.
point = Table(
    "point",
    metadata,
    Column("study", String(200), primary_key=True),
    Column("idx", BigInteger, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)
result = Table(
    "result",
    metadata,
    Column("job", String(250), primary_key=True),
    Column("study", String(200), nullable=False),
    Column("idx", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", String(20), nullable=False),
    Column("worker", Text, nullable=False),
    Column("arrival", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("result_by_index", "study", "idx"),
    Index("result_by_arrival", "study", "arrival"),
    Index("result_by_state", "study", "state", "idx"),
)
attempt = Table(
    "attempt",
    metadata,
    Column("job", String(250), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("worker", String(250), primary_key=True),
    Column("state", String(20), primary_key=True),
    Column("study", String(200), nullable=False),
    Column("body", LargeBinary, nullable=False),
)
cancel = Table(
    "cancel",
    metadata,
    Column("study", String(200), primary_key=True),
    Column("job", String(250), primary_key=True),  # "" for the whole study
)
worker = Table(
    "worker",
    metadata,
    Column("worker", String(250), primary_key=True),
    Column("heard_at", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),
)


def open_engine(url: str) -> Engine:
    """An engine with its tables made. Raises `FixThis`, `MissingTool`, `CollectorUnavailable`."""
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        options: dict[str, Any] = {"pool_pre_ping": True}
        if parsed.get_backend_name() == "sqlite":
            options = {"connect_args": {"timeout": _BUSY_S}}
        engine = create_engine(parsed, **options)
    except (ArgumentError, NoSuchModuleError) as error:
        raise FixThis(
            f"{url!r} is no database URL: {error}. Use sqlite:///file or postgresql://host/name."
        ) from error
    except ImportError as error:
        raise MissingTool(
            f"{error}; install it with: pip install 'queue-runner[postgres]'"
        ) from error
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
    try:
        _make_tables(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def errors(engine: Engine) -> tuple[type[Exception], ...]:
    """Raised where the database does not do what it is told: by SQLAlchemy, and by the driver itself."""
    return DBAPIError, engine.dialect.loaded_dbapi.Error


def unavailable(engine: Engine, error: Exception) -> CollectorUnavailable:
    said = error.orig if isinstance(error, DBAPIError) else error
    return CollectorUnavailable(f"database {engine.url.render_as_string()}: {said}")


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, record: object) -> None:
        # transactions are begun below, in the mode that we want
        connection.isolation_level = None
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        # a commit to the log survives kill -9, and `WriteAheadLog.flush` makes it survive a power cut;
        # there is no such log on a file system without shared memory
        level = "NORMAL" if mode == "wal" else "FULL"
        connection.execute(f"PRAGMA synchronous = {level}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Any) -> None:
        # a deferred transaction that reads first and then writes fails when another one has
        # written in between; taking the write lock at once waits for it instead
        writes = connection.get_execution_options().get("writes", False)
        begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
        connection.connection.driver_connection.execute(begin)


def write_ahead_log(engine: Engine) -> WriteAheadLog | None:
    """What commits are in before they are on the disk; None where they are there at once."""
    if engine.dialect.name != "sqlite":
        return None
    with engine.connect() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        _, _, file = connection.exec_driver_sql("PRAGMA database_list").all()[0]
    return WriteAheadLog(Path(f"{file}-wal")) if mode == "wal" else None


def _make_tables(engine: Engine) -> None:
    try:
        with engine.execution_options(writes=True).begin() as connection:
            if engine.dialect.name == "postgresql":
                # two collectors that start at once must not both make the tables
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7305418)")
            if not inspect(connection).has_table("schema"):
                metadata.create_all(connection)
                if connection.execute(select(schema)).first() is None:
                    connection.execute(insert(schema).values(version=SCHEMA_VERSION))
            _add_what_is_newer(connection)
            version = connection.execute(select(schema.c.version)).scalar_one()
    except errors(engine) as error:
        raise unavailable(engine, error) from error
    if version != SCHEMA_VERSION:
        raise FixThis(
            f"database {engine.url.render_as_string()} has schema version {version}, this program"
            f" knows {SCHEMA_VERSION}. Use the queue-runner version that wrote it, or a new database."
        )


def _add_what_is_newer(connection: Connection) -> None:
    """To a database that is older: what a program that does not know it may leave as it is."""
    for index in study.indexes:
        index.create(connection, checkfirst=True)
    point.create(connection, checkfirst=True)
    if not any(column["name"] == "open" for column in inspect(connection).get_columns("study")):
        connection.exec_driver_sql("ALTER TABLE study ADD COLUMN open BOOLEAN")


def inserting(dialect: str, table: Table) -> Any:
    """The INSERT of a kind of database, which knows ON CONFLICT."""
    # only the module of the database in use: that of PostgreSQL takes long to import
    return import_module(f"sqlalchemy.dialects.{dialect}").insert(table)
