"""Options that several commands share, and the values they take."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


def without_password(url: str | None) -> str | None:
    """For options with a URL: whoever can log in to this machine reads what is on a command line."""
    from queue_runner.brokers.registry import redacted
    from queue_runner.printing import printable

    if url is not None and redacted(url) != url:
        typer.echo(
            f"queue-runner: warning: everyone on this machine can read the password in"
            f" {printable(redacted(url))}; put the URL into a file and name that with"
            " QUEUE_RUNNER_BROKER_FILE, or into QUEUE_RUNNER_BROKER (a database's password: ~/.pgpass)",
            err=True,
        )
    return url


StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")]
StudyName = Annotated[
    str | None,
    typer.Argument(metavar="[STUDY]", help="A study's id or name; default: the latest study."),
]
Broker = Annotated[
    str | None,
    typer.Option(
        "--broker",
        metavar="URL",
        callback=without_password,
        help="Broker: amqp://, redis:// or zmq+tcp://. A URL with a password belongs in"
        " QUEUE_RUNNER_BROKER or in the file that QUEUE_RUNNER_BROKER_FILE names.",
    ),
]
CollectorUrl = Annotated[
    str | None,
    typer.Option("--collector", metavar="URL", help="Collector; also QUEUE_RUNNER_COLLECTOR."),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="File with the collector's token; also QUEUE_RUNNER_TOKEN_FILE.",
    ),
]
KeysFile = Annotated[
    Path | None,
    typer.Option(
        "--keys-file",
        metavar="FILE",
        help="Keys that sign messages (`queue-runner keys` makes them); also QUEUE_RUNNER_KEYS_FILE.",
    ),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Store of templates and artifacts; default: the collector's. Also QUEUE_RUNNER_STORE.",
    ),
]
Folder = Annotated[
    Path,
    typer.Option("--folder", metavar="DIR", help="Where `run` keeps its studies."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Cores = Annotated[
    int | None,
    typer.Option("--cores", min=1, help="Cores to use; default: those of this machine."),
]
Memory = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="Memory to use, such as 8GiB; default: all."),
]
Disk = Annotated[
    str | None,
    typer.Option(
        "--disk", metavar="SIZE", help="What a job may write that has no `resources: disk`."
    ),
]
Queues = Annotated[
    list[str] | None,
    typer.Option("--queue", metavar="NAME", help="Queue to take jobs from; may be repeated."),
]


class KeepFolders(StrEnum):
    NONE = "none"
    FAILED = "failed"
    ALL = "all"


Keep = Annotated[
    KeepFolders,
    typer.Option("--keep-folders", help="Which work folders stay after their job."),
]


def runtime_name(name: str) -> str:
    """For options that name a runtime."""
    from queue_runner.client.runtimes import known_runtime

    try:
        return known_runtime(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def read_token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path}: {error}", param_hint="--token-file") from error


def text_of(path: Path | None) -> str | None:
    return None if path is None else str(path)


def print_json(value: Any) -> None:
    """Strict JSON: what is not finite becomes null."""
    from queue_runner.tables import finite

    typer.echo(json.dumps(finite(value), indent=2, allow_nan=False))


def seconds(text: str, option: str) -> float:
    """`1 day`, `12 h` or a number of seconds; 0 too."""
    from queue_runner.units import parse_seconds

    try:
        return 0.0 if text.strip() == "0" else parse_seconds(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def size_bytes(text: str | None, option: str = "--memory") -> int | None:
    """`8GiB`, `500 MB` or a number of bytes."""
    from queue_runner.units import parse_bytes

    if text is None:
        return None
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
