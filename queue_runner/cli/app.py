"""The program itself: its commands, its exit codes, and how errors are shown."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Any

import typer

from queue_runner.errors import (
    BrokerRefused,
    CollectorRefused,
    QueueRunnerError,
    StoreRefused,
    TryLater,
)

EXIT_OK = 0
EXIT_JOBS_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_UNREACHABLE = 3
EXIT_REFUSED = 4
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

_EPILOG = (
    "Exit codes: 0 success; 1 some jobs failed (or a check of doctor did); 2 bad input: options,"
    " study file, names; 3 broker, collector or store unreachable; 4 refused: credentials or rights;"
    " 70 a bug; 130 interrupted."
)

#: typer has a copy of click of its own, or uses the one installed; what it raises is named through it
_UsageError: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="queue-runner",
    help="Run parameter studies of OpenFOAM cases, MPI programs and other commands on a message"
    " queue: on this machine (run), or on many (submit, worker, collector).",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"queue-runner {version('queue-runner')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Options before the command."""


def main() -> None:
    """Entry point of the `queue-runner` program."""
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    from queue_runner.cli import commands  # noqa: F401 - registers the commands with the app

    try:
        code = app(args=arguments, standalone_mode=False)
    except _UsageError as error:
        error.show()
        return EXIT_BAD_INPUT
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # the reader (head, less) has seen enough; nothing more may be flushed into the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except QueueRunnerError as error:
        typer.echo(f"queue-runner: {error}", err=True)
        return exit_code(error)
    return code if isinstance(code, int) else EXIT_OK


def exit_code(error: QueueRunnerError) -> int:
    if isinstance(error, TryLater):
        return EXIT_UNREACHABLE
    if isinstance(error, BrokerRefused | CollectorRefused | StoreRefused):
        return EXIT_REFUSED
    return EXIT_BAD_INPUT
