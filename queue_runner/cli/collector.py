"""The collector daemon: its service, its HTTP server, its token."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from queue_runner.brokers.registry import connect
from queue_runner.cli.app import EXIT_OK
from queue_runner.cli.memory import give_large_blocks_back, look_seldom_for_cycles
from queue_runner.client.config import OWN_TOKEN, Config, data_home
from queue_runner.collector.database import Database
from queue_runner.collector.http import make_app
from queue_runner.collector.metrics import Metrics
from queue_runner.collector.routes import Api
from queue_runner.collector.server import Certificate, HttpServer, is_loopback
from queue_runner.collector.service import LEASE_S, Collector
from queue_runner.collector.store_routes import Shelf
from queue_runner.errors import FixThis
from queue_runner.signing import open_seal
from queue_runner.store import open_store
from queue_runner.store.collector import CollectorStore
from queue_runner.store.folder import FolderStore
from queue_runner.store.uploads import Limits, Uploads

log = logging.getLogger("queue_runner.collector")


def serve_collector(
    config: Config,
    database_url: str | None,
    listen: str,
    on_signals: Callable[[Callable[[], None]], None],
    limits: Limits,
    certificate: Certificate | None = None,
    lease_s: float = LEASE_S,
) -> int:
    """Collect until a signal; returns the exit code. Raises `FixThis`, `BrokerUnavailable`."""
    host, port = _address(listen)
    seal = open_seal(config.keys_file)
    database = Database(_url(database_url))
    try:
        with connect(config.broker) as broker:
            broker.server()
            collector = Collector(broker, database, seal, lease_s)
            token = config.token or _own_token(database_url)
            api = Api(database, collector.request)
            shelf = open_shelf(config, database_url, limits, database)
            app = make_app(api, Metrics(database, collector.counters), token, shelf)
            server = HttpServer(app, host, port, certificate)
            look_seldom_for_cycles()
            give_large_blocks_back()
            on_signals(collector.drain)
            server.start()
            if certificate is None and not is_loopback(host):
                log.warning(
                    "%s: the token and all results travel unencrypted: give it --tls-cert and"
                    " --tls-key, or put a proxy with HTTPS before it",
                    server.url,
                )
            log.info("results are served at %s, the store %s too", server.url, shelf.store.name)
            try:
                collector.run()
            finally:
                database.news.close()
                server.stop()
    finally:
        database.close()
    return EXIT_OK


def open_shelf(
    config: Config,
    database_url: str | None,
    limits: Limits,
    database: Database,
) -> Shelf:
    """The store that was asked for, else `store/` beside the database file. Raises `FixThis`."""
    beside = _beside(database_url)
    store = open_store(config.store if "store" in config.given else str(beside / "store"))
    if isinstance(store, CollectorStore):
        raise FixThis(
            f"the collector's own store cannot be a collector's, {store.name}: name a folder or"
            " s3://bucket/folder with --store. QUEUE_RUNNER_STORE is for clients and workers, too."
        )
    folder = store.uploads if isinstance(store, FolderStore) else beside / "staging" / "uploads"
    return Shelf(store, Uploads(store, folder, limits), database.references, database.is_finished)


def _beside(database: str | None) -> Path:
    """The folder of the database file; where there is none, the one for what daemons keep."""
    own = database is not None and "://" not in database
    return Path(str(database)).absolute().parent if own else data_home()


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise FixThis(f"--listen {listen!r}: expected HOST:PORT, such as 127.0.0.1:8787")
    return host.strip("[]"), int(port)


def _url(database: str | None) -> str:
    if database is not None and "://" in database:
        return database
    path = Path(database) if database is not None else data_home() / "collector.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FixThis(f"--database {path}: {error.strerror}; choose another place") from error
    return f"sqlite:///{path.absolute()}"


def _own_token(database: str | None) -> str:
    """The token in a file that only this user can read, made at the first start."""
    folder = _beside(database)
    path = folder / OWN_TOKEN
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        token = path.read_text().strip()
        if not token:
            raise FixThis(f"{path} is empty; delete it, and a new token is made") from None
    else:
        token = secrets.token_urlsafe(32)
        with os.fdopen(handle, "w") as out:
            out.write(token + "\n")
    log.info("clients need the token in %s (QUEUE_RUNNER_TOKEN_FILE)", path)
    return token
