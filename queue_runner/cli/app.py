"""The program itself: its commands, its exit codes, and how errors are shown."""

from __future__ import annotations

import errno
import gc
import io
import os
import sys
import traceback
from typing import Any

import typer

from queue_runner.cli.commands import register
from queue_runner.errors import (
    BrokerRefused,
    CollectorRefused,
    QueueRunnerError,
    StoreRefused,
    TryLater,
)
from queue_runner.printing import printable

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

#: What the machine says no to, wherever it happens: the user's to mend, and no bug.
_NO_ROOM_OR_RIGHT = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOENT,
    errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
}  # fmt: skip

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


def say(text: object, *, err: bool = False) -> None:
    """A line for people. What jobs and messages hold can do nothing to their terminal."""
    typer.echo(printable(str(text)), err=err)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        say(f"queue-runner {version('queue-runner')}")
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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a terminal that has no letters of a name's language still shows the rest
            stream.reconfigure(errors="backslashreplace")
    code = _run(sys.argv[1:])
    # the interpreter looks through all that there is, several times, before it ends; what is frozen it skips
    gc.freeze()
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    register(app, arguments)
    try:
        code = app(args=arguments, standalone_mode=False)
        sys.stdout.flush()
    except _UsageError as error:
        error.show()
        return EXIT_BAD_INPUT
    except (typer.Abort, KeyboardInterrupt):
        say("interrupted", err=True)
        return EXIT_INTERRUPTED
    except SystemExit as end:
        # typer turns a reader that went away into an end with 1, which says that jobs failed
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        _discard_output()
        return EXIT_OK
    except BrokenPipeError:
        # the reader (head, less) has seen enough; nothing more may be flushed into the pipe
        _discard_output()
        return EXIT_OK
    except OSError as error:
        if error.errno not in _NO_ROOM_OR_RIGHT:
            return _bug(error)
        _discard_output()
        place = error.filename or "writing the output"
        say(f"queue-runner: {place}: {error.strerror}", err=True)
        return EXIT_BAD_INPUT
    except QueueRunnerError as error:
        say(f"queue-runner: {error}", err=True)
        return exit_code(error)
    except Exception as error:  # noqa: BLE001 - a bug has its exit code, and its trace is shown
        return _bug(error)
    return code if isinstance(code, int) else EXIT_OK


def _discard_output() -> None:
    """What is still buffered would fail once more when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _bug(error: Exception) -> int:
    traceback.print_exception(error)
    say("queue-runner: this is a bug in queue-runner; please report the lines above", err=True)
    return EXIT_BUG


def exit_code(error: QueueRunnerError) -> int:
    if isinstance(error, TryLater):
        return EXIT_UNREACHABLE
    if isinstance(error, BrokerRefused | CollectorRefused | StoreRefused):
        return EXIT_REFUSED
    return EXIT_BAD_INPUT
