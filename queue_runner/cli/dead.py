"""`dead`: messages that nobody could read or run."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from queue_runner.cli.app import app, say
from queue_runner.cli.options import Broker, Json, print_json


@app.command(epilog="Example: queue-runner dead jobs.default --replay")
def dead(
    queue: Annotated[
        str, typer.Argument(metavar="QUEUE", help="`jobs.NAME`, or `results`.")
    ] = "jobs.default",
    broker: Broker = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many to show.")] = 20,
    replay: Annotated[
        bool, typer.Option("--replay", help="Put them (or those with --id) back into the queue.")
    ] = False,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Only this one.")] = None,
    as_json: Json = False,
) -> None:
    """List dead letters with their reason, or replay them."""
    from queue_runner.brokers.registry import connect
    from queue_runner.client.config import load_config

    with connect(load_config(broker=broker).broker) as connection:
        if replay:
            count = connection.replay(queue, ids)
            say(f"{count} messages put back into {queue}")
            return
        letters = connection.dead_letters(queue, limit)
    if as_json:
        print_json(
            [
                {
                    "id": letter.id,
                    "queue": letter.queue,
                    "reason": letter.reason,
                    "attempt": letter.attempt,
                    "at": letter.at,
                    "size_bytes": len(letter.body),
                }
                for letter in letters
            ]
        )
        return
    if not letters:
        say(f"{queue}: no dead letters")
    for letter in letters:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(letter.at))
        say(f"{when}  {letter.id}  attempt {letter.attempt}: {letter.reason}")
