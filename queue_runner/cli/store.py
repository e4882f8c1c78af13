"""`store`: what the store holds, and what of it nobody needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queue_runner.cli.app import app, say
from queue_runner.cli.options import (
    CollectorUrl,
    Folder,
    Json,
    TokenFile,
    print_json,
    read_token,
    seconds,
)

if TYPE_CHECKING:
    from queue_runner.store.collector import CollectorStore

store = typer.Typer(
    help="Look after the store of templates and artifacts.",
    no_args_is_help=True,
    epilog="Example: queue-runner store status --collector http://lab:8787",
)
app.add_typer(store, name="store")

_RUNS = Path("runs")


@store.command("status", epilog="Example: queue-runner store status --collector http://lab:8787")
def store_status(
    collector: CollectorUrl = None, token_file: TokenFile = None, as_json: Json = False
) -> None:
    """What the collector's store holds, and how much it takes."""
    usage = _served(collector, token_file).usage()
    if as_json:
        print_json(usage)
        return
    quota = f" of {_size(usage['quota_bytes'])}" if usage["quota_bytes"] else ", no quota"
    largest = usage["object_bytes"]
    limit = f"; largest file {_size(largest)}" if largest else ""
    say(f"{usage['store']}: {usage['objects']} objects, {_size(usage['size_bytes'])}{quota}{limit}")


@store.command("gc", epilog="Example: queue-runner store gc --older-than 7d --dry-run")
def collect(
    older_than: Annotated[
        str,
        typer.Option("--older-than", metavar="TIME", help="Spare what was put within this time."),
    ] = "1 day",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    folder: Folder = _RUNS,
    collector: CollectorUrl = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Remove what no study refers to: from the collector's store, or that of the runs in DIR.

    What was put within the given time stays, which makes it safe beside a running submission.
    """
    age_s = seconds(older_than, "--older-than")
    found = _collected(folder, collector, token_file, age_s, dry_run)
    if as_json:
        print_json(found)
        return
    verb = "would remove" if dry_run else "removed"
    leftovers = found["leftover_bytes"]
    say(
        f"{found['store']}: {verb} {found['removed']} of {found['objects']} objects,"
        f" {_size(found['removed_bytes'])} of {_size(found['size_bytes'])}"
        + (f", and {_size(leftovers)} of broken uploads" if leftovers else "")
    )


def _collected(
    folder: Path, collector: str | None, token_file: Path | None, age_s: float, dry_run: bool
) -> Mapping[str, Any]:
    from contextlib import closing

    from queue_runner.client.config import load_config
    from queue_runner.client.folder import RunsFolder
    from queue_runner.store import open_store
    from queue_runner.store.garbage import collect_garbage

    given = load_config(collector=collector).given
    if "collector" in given or not any(folder.glob("*/state/collector.sqlite")):
        return _served(collector, token_file).collect_garbage(age_s, dry_run=dry_run)
    with closing(RunsFolder(folder)) as runs:
        found = collect_garbage(
            open_store(runs.store_url),
            runs.references(),
            finished=runs.is_finished,
            older_than_s=age_s,
            dry_run=dry_run,
        )
    return dataclasses.asdict(found)


def _served(collector: str | None, token_file: Path | None) -> CollectorStore:
    from queue_runner.client.config import load_config
    from queue_runner.store.collector import CollectorStore

    config = load_config(collector=collector, token=read_token(token_file))
    return CollectorStore(config.collector, config.token, config.ca_file)


def _size(size_bytes: int) -> str:
    from rich.filesize import decimal

    return decimal(size_bytes)
