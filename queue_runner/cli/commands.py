"""Which module has which command, in the order of `--help`.

Only the module of the command in hand is imported, so that a program that is called often starts at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module

import typer

COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("run", "Run a study here, with everything embedded: no server needed."),
    "check": ("studies", "Validate a study file, and show its first points."),
    "submit": ("submit", "Enqueue a study's jobs on a broker, for workers to run."),
    "add": ("add", "Add points to a study that is open."),
    "status": ("follow", "How far studies are, and which workers are there."),
    "watch": ("follow", "Follow a study until every job has a result."),
    "results": ("follow", "A study's results so far, as a table."),
    "logs": ("follow", "The end of a job's log, and why it failed."),
    "plot": ("follow", "Draw a measured value over a parameter."),
    "show": ("job", "All that is known of a job, and how to run it again."),
    "fetch": ("fetch", "Bring back the files that jobs kept."),
    "cancel": ("control", "End a study's running jobs, and start none any more."),
    "retry": ("control", "Enqueue jobs again that failed, were cancelled or lost."),
    "rerun": ("job", "Run a job again, here, and compare digit for digit."),
    "verify": ("verify", "Run a study several times, and compare byte for byte."),
    "schema": ("studies", "Print the JSON Schema of study files, for editors."),
    "worker": ("daemons", "Run jobs from a broker on this machine."),
    "collector": ("daemons", "Store results, and serve them over HTTP."),
    "broker": ("daemons", "Serve the ZeroMQ broker: no RabbitMQ or Redis is needed."),
    "backup": ("backup", "Copy the collector's SQLite database while it is in use."),
    "dead": ("dead", "List dead letters with their reason, or replay them."),
    "store": ("store", "Look after the store of templates and artifacts."),
    "image": ("images", "Build, list and verify the container images."),
    "keys": ("keys_curve", "Make and rotate the keys that sign messages."),
    "health": ("health", "Ask a daemon how it is."),
    "doctor": ("doctor", "What is installed, reachable, missing, and what to do."),
}


def register(app: typer.Typer, arguments: Sequence[str]) -> None:
    """Add the command that is called, or all of them, without what they do, where none of them is."""
    called = next((word for word in arguments if not word.startswith("-")), None)
    if called is not None and called in COMMANDS:
        import_module(f"queue_runner.cli.{COMMANDS[called][0]}")
        return
    for name, (_, line) in COMMANDS.items():
        app.command(name, help=line)(_listed)


def _listed() -> None:
    """Stands in the list for a command that is not called."""
