"""`backup`: copies of the collector's database, once or again and again."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Annotated

import typer

from queue_runner.cli.app import EXIT_OK, app, say
from queue_runner.cli.daemons import Level, LogLevel, on_signals, start_logging

_AGAIN_S = 60.0


@app.command(epilog="Example: queue-runner backup --database lab.sqlite --to /backups --every 24")
def backup(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder for the copies.")],
    database: Annotated[
        Path | None, typer.Option("--database", metavar="FILE", help="The collector's SQLite file.")
    ] = None,
    every_h: Annotated[
        float | None,
        typer.Option("--every", min=0.001, metavar="HOURS", help="Go on until told to stop."),
    ] = None,
    keep: Annotated[int, typer.Option("--keep", min=1, help="How many copies stay.")] = 14,
    log_level: Level = LogLevel.INFO,
) -> int:
    """Copy the collector's SQLite database while it is in use."""
    from queue_runner.client.config import data_home
    from queue_runner.collector.backup import back_up
    from queue_runner.errors import FixThis

    start_logging(log_level)
    log = logging.getLogger("queue_runner.backup")
    source = database or data_home() / "collector.sqlite"
    if every_h is None:
        say(back_up(source, to, keep))
        return EXIT_OK
    stop = threading.Event()
    on_signals(stop.set)
    while not stop.is_set():
        wait_s = every_h * 3600
        try:
            log.info("%s", back_up(source, to, keep))
        except FixThis as error:
            # the collector may not have started yet, or the disk be full for a while
            wait_s = min(wait_s, _AGAIN_S)
            log.error("%s; next try in %g s", error, wait_s)
        stop.wait(wait_s)
    return EXIT_OK
