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
from queue_runner.cli.memory import give_large_blocks_back, look_seldom_for_cycles
from queue_runner.cli.options import (
    Broker,
    CollectorUrl,
    Cores,
    Disk,
    Keep,
    KeepFolders,
    KeysFile,
    Memory,
    Queues,
    StoreUrl,
    TokenFile,
    read_token,
    seconds,
    size_bytes,
    text_of,
    without_password,
)
from queue_runner.errors import FixThis
from queue_runner.printing import printable


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Sync(StrEnum):
    NORMAL = "normal"
    FULL = "full"


Level = Annotated[LogLevel, typer.Option("--log-level", help="How much to say on stderr.")]


class _Formatter(logging.Formatter):
    """What is quoted in a message can neither look like a line of its own nor steer a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message).replace("\n", "\n    ")
        return super().formatMessage(record)


def start_logging(level: LogLevel) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.value.upper(), handlers=[handler])
    # pika reports every reconnect attempt as an error with a trace; our adapter says it in one line
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    # it tells of every request
    logging.getLogger("urllib3").setLevel(logging.WARNING)


def on_signals(drain: Callable[[], None], terminate: Callable[[], None] | None = None) -> None:
    """The first SIGTERM or SIGINT drains, a second one raises KeyboardInterrupt.

    terminate: what SIGTERM does instead.
    """

    def first(number: int, frame: object) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.default_int_handler)
        if number == signal.SIGTERM and terminate is not None:
            terminate()
        else:
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
    disk: Disk = None,
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
    warm: Annotated[
        bool,
        typer.Option(
            "--warm",
            help="With --runtime docker: a container serves one job of a study after another. Faster;"
            " jobs of one study are less apart (docs/containers.md).",
        ),
    ] = False,
    hand_over: Annotated[
        str | None,
        typer.Option(
            "--hand-over",
            metavar="TIME",
            help="With --runtime docker: SIGTERM leaves running containers to the next worker of this"
            " --name and --scratch, if it starts within this time. Ctrl-C drains.",
        ),
    ] = None,
    bundle_size: Annotated[
        str | None,
        typer.Option("--bundle-size", metavar="SIZE", help="Of a study's files. [default: 2 GiB]"),
    ] = None,
    bundle_files: Annotated[
        int | None,
        typer.Option(
            "--bundle-files", min=1, metavar="N", help="Files of a study. [default: 1000000]"
        ),
    ] = None,
    keep_folders: Keep = KeepFolders.NONE,
    keys_file: KeysFile = None,
    log_level: Level = LogLevel.INFO,
) -> int:
    """Run jobs from a broker on this machine until told to stop. SIGTERM drains."""
    from queue_runner.brokers.registry import connect
    from queue_runner.client.config import data_home, load_config
    from queue_runner.signing import open_seal
    from queue_runner.workers.acceptance import Acceptance
    from queue_runner.workers.daemon import Worker
    from queue_runner.workers.settings import WorkerSettings

    start_logging(log_level)
    if image is not None and runtime != "docker":
        raise FixThis(f"--image {image} goes with --runtime docker")
    if warm and runtime != "docker":
        raise FixThis("--warm goes with --runtime docker")
    if hand_over is not None and (runtime != "docker" or name is None):
        raise FixThis(f"--hand-over {hand_over} goes with --runtime docker and --name")
    config = load_config(
        broker=broker,
        collector=collector,
        token=read_token(token_file),
        store=store,
        keys_file=text_of(keys_file),
        bundle_size=bundle_size,
        bundle_files=None if bundle_files is None else str(bundle_files),
    )
    seal = open_seal(config.keys_file)
    settings = WorkerSettings(
        name=name or f"{socket.gethostname()}-{os.getpid()}",
        queues=tuple(queue or ["default"]),
        cores=cores or len(os.sched_getaffinity(0)),
        memory_bytes=size_bytes(memory),
        disk_bytes=size_bytes(disk, "--disk"),
        scratch=scratch or data_home() / "scratch",
        store_url=config.store,
        store_token=config.store_token,
        ca_file=config.ca_file,
        lease_s=lease_s,
        grace_s=grace_s,
        runtime=runtime,
        image=image,
        warm=warm,
        keep_folders=keep_folders.value,
        health=True,
        own_process=True,
        accept=Acceptance.of(config.accept),
        bundles=config.bundles,
        hand_over_s=None if hand_over is None else seconds(hand_over, "--hand-over"),
    )
    with connect(config.broker) as connection:
        connection.server()
        daemon = Worker(settings, connection, seal)
        look_seldom_for_cycles()
        give_large_blocks_back()
        on_signals(daemon.drain, daemon.hand_over if hand_over is not None else None)
        return daemon.run()


@app.command(epilog="Example: queue-runner collector --broker redis://head --database lab.sqlite")
def collector(
    broker: Broker = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            callback=without_password,
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
    keys_file: KeysFile = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option("--tls-cert", metavar="FILE", help="Serve HTTPS: certificate (PEM, chain)."),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option("--tls-key", metavar="FILE", help="Its secret key (PEM)."),
    ] = None,
    lease_s: Annotated[
        float,
        typer.Option(
            "--lease",
            min=1,
            metavar="SECONDS",
            help="What it had received comes to the next collector so long after it was killed.",
        ),
    ] = 60.0,
    log_level: Level = LogLevel.INFO,
) -> int:
    """Store results, answer status and results over HTTP, pass on cancels. SIGTERM drains."""
    from queue_runner.cli.collector import serve_collector
    from queue_runner.client.config import load_config
    from queue_runner.collector.server import certificate_of
    from queue_runner.store.uploads import Limits

    start_logging(log_level)
    config = load_config(
        broker=broker, token=read_token(token_file), store=store, keys_file=text_of(keys_file)
    )
    limits = Limits(
        size_bytes(store_quota, "--store-quota"), size_bytes(store_max_file, "--store-max-file")
    )
    certificate = certificate_of(tls_cert, tls_key)
    return serve_collector(config, database, listen, on_signals, limits, certificate, lease_s)


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
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="FILE",
            help="The server's secret key (`keys curve`): encrypt, and let in only --clients.",
        ),
    ] = None,
    clients: Annotated[
        Path | None,
        typer.Option(
            "--clients",
            metavar="FILE|DIR",
            help="Public keys of those who may come in: one a line, or files *.pub in a folder.",
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Without --key, listen where other machines reach it."),
    ] = False,
    log_level: Level = LogLevel.INFO,
) -> int:
    """Serve the ZeroMQ broker, for a machine or a lab: no RabbitMQ or Redis is needed."""
    from queue_runner.brokers.zeromq.keys import server_keys
    from queue_runner.brokers.zeromq.server import BrokerServer, is_local
    from queue_runner.client.config import data_home

    start_logging(log_level)
    path = journal or data_home() / "broker.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    addresses = [_zmq_url(address) for address in listen or ["127.0.0.1:5670"]]
    keys = server_keys(key, clients)
    if keys is None and not insecure and (open_to := [a for a in addresses if not is_local(a)]):
        raise FixThis(
            f"{open_to[0]}: whoever reaches it could give work to every worker. Make keys with"
            " `queue-runner keys curve` and start with --key and --clients, listen on 127.0.0.1, or"
            " say --insecure where the network lets nobody else in"
        )
    server = BrokerServer(addresses, path, sync=sync.value, keys=keys)
    look_seldom_for_cycles()
    give_large_blocks_back()
    on_signals(server.stop)
    server.run()
    return EXIT_OK


def _zmq_url(address: str) -> str:
    return address if "://" in address else f"zmq+tcp://{address}"
