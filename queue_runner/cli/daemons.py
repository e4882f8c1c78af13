"""`worker`, `collector`, `broker`: the daemons. SIGTERM or Ctrl-C drains; a second one ends at once."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from queue_runner.cli.app import EXIT_OK, app
from queue_runner.cli.options import (
    Broker,
    CollectorUrl,
    Cores,
    Keep,
    KeepFolders,
    Memory,
    Queues,
    StoreUrl,
    TokenFile,
    read_token,
    size_bytes,
)
from queue_runner.errors import FixThis


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Sync(StrEnum):
    NORMAL = "normal"
    FULL = "full"


Level = Annotated[LogLevel, typer.Option("--log-level", help="How much to say on stderr.")]


def start_logging(level: LogLevel) -> None:
    logging.basicConfig(
        level=level.value.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # pika reports every reconnect attempt as an error with a trace; our adapter says it in one line
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    # httpx tells of every request
    logging.getLogger("httpx").setLevel(logging.WARNING)


def on_signals(drain: Callable[[], None]) -> None:
    """The first SIGTERM or SIGINT drains, a second one raises KeyboardInterrupt."""

    def first(number: int, frame: object) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.default_int_handler)
        drain()

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, first)


@app.command(epilog="Example: queue-runner worker --broker redis://head --cores 16 --memory 60GiB")
def worker(
    broker: Broker = None,
    collector: CollectorUrl = None,
    token_file: TokenFile = None,
    store: StoreUrl = None,
    cores: Cores = None,
    memory: Memory = None,
    queue: Queues = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Default: host name and process id.")
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option("--scratch", metavar="DIR", help="Where jobs' work folders are made."),
    ] = None,
    lease_s: Annotated[
        float, typer.Option("--lease", min=1, metavar="SECONDS", help="Life of an unrenewed claim.")
    ] = 60.0,
    grace_s: Annotated[
        float,
        typer.Option("--grace", min=0, metavar="SECONDS", help="For running jobs when draining."),
    ] = 30.0,
    runtime: Annotated[
        str, typer.Option("--runtime", help="process, or docker: a container for each step.")
    ] = "process",
    image: Annotated[
        str | None,
        typer.Option("--image", help="With --runtime docker, for jobs that name no image."),
    ] = None,
    keep_folders: Keep = KeepFolders.NONE,
    log_level: Level = LogLevel.INFO,
) -> int:
    """Run jobs from a broker on this machine until told to stop. SIGTERM drains."""
    from queue_runner.brokers.registry import connect
    from queue_runner.client.config import data_home, load_config
    from queue_runner.workers.daemon import Worker, WorkerSettings

    start_logging(log_level)
    if image is not None and runtime != "docker":
        raise FixThis(f"--image {image} goes with --runtime docker")
    config = load_config(
        broker=broker, collector=collector, token=read_token(token_file), store=store
    )
    settings = WorkerSettings(
        name=name or f"{socket.gethostname()}-{os.getpid()}",
        queues=tuple(queue or ["default"]),
        cores=cores or len(os.sched_getaffinity(0)),
        memory_bytes=size_bytes(memory),
        scratch=scratch or data_home() / "scratch",
        store_url=config.store,
        store_token=config.store_token,
        lease_s=lease_s,
        grace_s=grace_s,
        runtime=runtime,
        image=image,
        keep_folders=keep_folders.value,
        health=True,
    )
    with connect(config.broker) as connection:
        connection.server()
        daemon = Worker(settings, connection)
        on_signals(daemon.drain)
        return daemon.run()


@app.command(epilog="Example: queue-runner collector --broker redis://head --database lab.sqlite")
def collector(
    broker: Broker = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            help="SQLite file, or postgresql:// (see docs/collector.md).",
        ),
    ] = None,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where the HTTP API listens.")
    ] = "127.0.0.1:8787",
    token_file: TokenFile = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            help="Folder (or s3://...) of the store that it serves; default: beside the database.",
        ),
    ] = None,
    store_quota: Annotated[
        str | None,
        typer.Option("--store-quota", metavar="SIZE", help="The store takes no more than this."),
    ] = None,
    store_max_file: Annotated[
        str | None,
        typer.Option("--store-max-file", metavar="SIZE", help="Largest file that it takes."),
    ] = None,
    log_level: Level = LogLevel.INFO,
) -> int:
    """Store results, answer status and results over HTTP, pass on cancels. SIGTERM drains."""
    from queue_runner.cli.collector import serve_collector
    from queue_runner.client.config import load_config
    from queue_runner.store.uploads import Limits

    start_logging(log_level)
    config = load_config(broker=broker, token=read_token(token_file), store=store)
    limits = Limits(
        size_bytes(store_quota, "--store-quota"), size_bytes(store_max_file, "--store-max-file")
    )
    return serve_collector(config, database, listen, on_signals, limits)


@app.command(epilog="Example: queue-runner broker --listen 127.0.0.1:5670")
def broker(
    listen: Annotated[
        list[str] | None,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            help="Where to listen; also zmq+ipc:///path. Default: 127.0.0.1:5670.",
        ),
    ] = None,
    journal: Annotated[
        Path | None, typer.Option("--journal", metavar="FILE", help="Where messages are kept.")
    ] = None,
    sync: Annotated[
        Sync, typer.Option("--sync", help="full: survive a power cut too, at a price.")
    ] = Sync.NORMAL,
    log_level: Level = LogLevel.INFO,
) -> int:
    """Serve the ZeroMQ broker, for a machine or a lab: no RabbitMQ or Redis is needed."""
    from queue_runner.brokers.zeromq.server import BrokerServer
    from queue_runner.client.config import data_home

    start_logging(log_level)
    path = journal or data_home() / "broker.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    addresses = [_zmq_url(address) for address in listen or ["127.0.0.1:5670"]]
    server = BrokerServer(addresses, path, sync=sync.value)
    on_signals(server.stop)
    server.run()
    return EXIT_OK


def _zmq_url(address: str) -> str:
    return address if "://" in address else f"zmq+tcp://{address}"
