"""`keys curve`: a key pair for the ZeroMQ server or one of its clients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from queue_runner.cli.app import EXIT_OK, say
from queue_runner.cli.keys import keys


@keys.command("curve", epilog="Example: queue-runner keys curve head --folder ~/keys")
def curve(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose keys, such as a host's name.")],
    folder: Annotated[
        Path, typer.Option("--folder", metavar="DIR", help="Where NAME.key and NAME.pub go.")
    ] = Path(),
) -> int:
    """Make a key pair for the ZeroMQ server, or for one of its clients.

    NAME.key is secret and stays where it is used. NAME.pub goes to the others: the server's to every
    client (server_key_file=), a client's into what the server was given as --clients.
    """
    from queue_runner.brokers.zeromq.keys import make_pair

    secret, public = make_pair(folder, name)
    say(f"{secret}: secret")
    say(f"{public}: {public.read_text().split()[0]}")
    return EXIT_OK
