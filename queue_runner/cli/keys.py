"""`keys`: what signs messages. No command shows a secret; `export` writes some to a file."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queue_runner.cli.app import app, say
from queue_runner.cli.options import Json, KeysFile, print_json, seconds, text_of

if TYPE_CHECKING:
    from queue_runner.signing.keys import Key, KeySet
    from queue_runner.signing.purposes import Role

keys = typer.Typer(
    help="Make and rotate the keys that sign messages, whose changes daemons notice by themselves; make"
    " the key pairs of a ZeroMQ server and its clients (curve).",
    no_args_is_help=True,
    epilog="Example: queue-runner keys new --keys-file keys.json",
)
app.add_typer(keys, name="keys")

_Name = Annotated[str, typer.Argument(metavar="NAME", help="The key's name.")]


class RoleName(StrEnum):
    WORKER = "worker"
    CLIENT = "client"
    COLLECTOR = "collector"


@keys.command("new", epilog="Example: queue-runner keys new 2027 --not-after 2028-01-31")
def new(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Default: today's date.")
    ] = None,
    not_after: Annotated[
        str | None,
        typer.Option("--not-after", metavar="DATE", help="It signs until then; default: for ever."),
    ] = None,
    keys_file: KeysFile = None,
) -> None:
    """Make a key. The first one of a file signs; a later one only verifies until `keys use`."""
    from queue_runner.signing.keys import Key, KeySet

    path = _path(keys_file)
    before = _read(path) if path.exists() else KeySet({})
    made = Key.make(name or time.strftime("%Y-%m-%d"), time.time(), _moment(not_after))
    after = _write(path, before.with_key(made))
    say(f"{path}: made the key {made.name}, {_what_it_does(made, after)}")


@keys.command("list", epilog="Example: queue-runner keys list --json")
def list_keys(keys_file: KeysFile = None, as_json: Json = False) -> None:
    """Show the keys, without their secrets. A fingerprint tells keys of one name apart."""
    path = _path(keys_file)
    found = _read(path)
    if as_json:
        print_json([_plain(key, found) for key in found.keys.values()])
        return
    for key in found.keys.values():
        limited = "" if key.limits is None else f"; for {', '.join(key.limits)}"
        say(f"{key.name}  {key.fingerprint}  {_what_it_does(key, found)}{limited}")
    say(f"{path}: messages may be {found.max_age_s / 86400:g} days old")


@keys.command("use", epilog="Example: queue-runner keys use 2027")
def use(name: _Name, keys_file: KeysFile = None) -> None:
    """Let this key sign from now on. Every host has to have it by then."""
    path = _change(keys_file, lambda found: found.signing_with(name))
    say(f"{path}: {name} signs")


@keys.command("retire", epilog="Example: queue-runner keys retire 2026")
def retire(name: _Name, keys_file: KeysFile = None) -> None:
    """Take a key out for good. What it has signed and still waits is refused from then on."""
    path = _change(keys_file, lambda found: found.without(name))
    say(f"{path}: {name} is gone; what it has signed is refused")


@keys.command("max-age", epilog="Example: queue-runner keys max-age 365d")
def max_age(
    age: Annotated[str, typer.Argument(metavar="TIME", help="Such as 90d.")],
    keys_file: KeysFile = None,
) -> None:
    """Set how long after it was signed a message is accepted."""
    from dataclasses import replace

    age_s = seconds(age, "TIME")
    if age_s < 1:
        raise typer.BadParameter("messages take some time", param_hint="TIME")
    path = _change(keys_file, lambda found: replace(found, max_age_s=age_s))
    say(f"{path}: messages may be {age_s / 86400:g} days old")


@keys.command(
    "export", epilog="Example: queue-runner keys export mpi.json --role worker --queue mpi"
)
def export(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write them.")],
    role: Annotated[
        RoleName | None,
        typer.Option("--role", help="Only what such a host needs; default: the whole keys."),
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", metavar="NAME", help="Of a worker or client; may be repeated."),
    ] = None,
    keys_file: KeysFile = None,
) -> None:
    """Write the keys to a file for another host, to be carried there in secret.

    With a role, the file holds no key but secrets made from them: a worker of one queue can do nothing
    in another queue, and a client can report no results.
    """
    from queue_runner.signing.file import write_key_file

    found = _read(_path(keys_file))
    if role is None:
        write_key_file(target, found)
        say(f"{target}: the whole keys {', '.join(found.keys)}")
        return
    wanted = _role(role, queue or ["default"])
    write_key_file(target, found.limited_to(wanted.purposes))
    say(f"{target}: for a {wanted.name}: {', '.join(wanted.purposes)}")


def _role(name: RoleName, queues: list[str]) -> Role:
    from queue_runner.signing import for_client, for_collector, for_worker

    if name is RoleName.COLLECTOR:
        return for_collector()
    return (for_worker if name is RoleName.WORKER else for_client)(queues)


def _path(given: Path | None) -> Path:
    from queue_runner.client.config import load_config
    from queue_runner.errors import KeysRefused

    path = load_config(keys_file=text_of(given)).keys_file
    if path is None:
        raise KeysRefused(
            "which key file? Name it with --keys-file, QUEUE_RUNNER_KEYS_FILE, or keys_file in"
            " ~/.config/queue-runner/config.toml"
        )
    return path


def _read(path: Path) -> KeySet:
    from queue_runner.signing.file import read_key_file

    return read_key_file(path)


def _write(path: Path, changed: KeySet) -> KeySet:
    from queue_runner.signing.file import write_key_file

    write_key_file(path, changed)
    return changed


def _change(keys_file: Path | None, change: Callable[[KeySet], KeySet]) -> Path:
    path = _path(keys_file)
    _write(path, change(_read(path)))
    return path


def _moment(text: str | None) -> float | None:
    from queue_runner.signing.text import seconds_of

    if text is None:
        return None
    try:
        moment = seconds_of(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no date such as 2027-01-31", param_hint="--not-after"
        ) from error
    if moment <= time.time():
        raise typer.BadParameter(f"{text} is over", param_hint="--not-after")
    return moment


def _what_it_does(key: Key, among: KeySet) -> str:
    from queue_runner.signing.text import time_of

    does = "signs" if among.signs == key.name else "verifies"
    if key.not_after is None:
        return does
    if not key.may_sign(time.time()):
        return f"expired {time_of(key.not_after)}"
    return f"{does} until {time_of(key.not_after)}"


def _plain(key: Key, among: KeySet) -> dict[str, Any]:
    from queue_runner.signing.text import time_of

    return {
        "name": key.name,
        "signs": among.signs == key.name,
        "made_at": time_of(key.made_at),
        "not_after": None if key.not_after is None else time_of(key.not_after),
        "fingerprint": key.fingerprint,
        "purposes": key.limits,
    }
