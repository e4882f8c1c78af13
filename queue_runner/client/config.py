"""Where things are: broker, collector, store, token. One precedence for every command and the API.

An argument wins over an environment variable (`QUEUE_RUNNER_BROKER`, ...), that over
`queue-runner.toml` in the current folder, that over `~/.config/queue-runner/config.toml`, that over
the default. A URL with a password belongs in a file or the environment, never on a command line:
every setting can also be given as the name of a file that holds it (`QUEUE_RUNNER_BROKER_FILE`,
`broker_file = ...`). The keys that sign messages are always a file, `QUEUE_RUNNER_KEYS_FILE`,
`keys_file = ...`, and so is the certificate of the authority that a collector's HTTPS is checked with:
`QUEUE_RUNNER_CA_FILE`, `ca_file = ...`.
`bundle_size` and `bundle_files` bound the template folders that a client sends and a worker unpacks.
A table `[accept]` in the files says what a worker accepts, rule by rule.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from queue_runner.errors import FixThis
from queue_runner.plugins import nearest
from queue_runner.store import BundleLimits
from queue_runner.units import parse_bytes
from queue_runner.workers.acceptance import RULES

DEFAULT_BROKER = "zmq+tcp://127.0.0.1:5670"
DEFAULT_COLLECTOR = "http://127.0.0.1:8787"
#: File in `data_home` with the token of a collector that was given none.
OWN_TOKEN = "collector.token"
NAMES = ("broker", "collector", "store", "token")
#: Settings that are text and no secret.
LIMITS = ("bundle_size", "bundle_files")
#: Settings that are the name of a file.
FILES = ("keys_file", "ca_file")


def data_home() -> Path:
    """`$XDG_DATA_HOME/queue-runner`, where daemons keep what must last."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "queue-runner"


def cache_home() -> Path:
    """`$XDG_CACHE_HOME/queue-runner`, for what can be made again."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "queue-runner"


def own_store() -> str:
    """URL of the folder that serves as store where nothing else was asked for."""
    return (data_home() / "store").as_uri()


@dataclass(frozen=True, slots=True)
class Config:
    """`given` holds the settings that somebody really set, and where, for error messages.

    store: as given; else that of the collector, where one was given; else the folder that a
    collector of this user's serves by default.
    """

    broker: str = field(repr=False)
    collector: str
    store: str
    token: str | None = field(repr=False)
    keys_file: Path | None
    accept: Mapping[str, Sequence[str]]
    ca_file: Path | None
    bundles: BundleLimits
    given: Mapping[str, str]

    @property
    def store_token(self) -> str | None:
        """The token for a store that is a collector's; one found by itself is for our own only."""
        return self.token if "token" in self.given or "store" not in self.given else None


def load_config(**arguments: str | None) -> Config:
    """Settle every setting. Raises `FixThis` for a file that is not there or not readable."""
    values: dict[str, str] = {}
    origins: dict[str, str] = {}
    accept: dict[str, Sequence[str]] = {}
    for origin, source in reversed(_sources(arguments)):
        for name in NAMES:
            value = _lookup(name, source, origin)
            if value is not None:
                values[name], origins[name] = value, origin
        for name in (*FILES, *LIMITS):
            if name in source:
                values[name], origins[name] = str(source[name]), origin
        if isinstance(source.get("accept"), dict):
            accept |= source["accept"]
    _check_collector(values.get("collector"), origins)
    return Config(
        broker=values.get("broker", DEFAULT_BROKER),
        collector=values.get("collector", DEFAULT_COLLECTOR),
        store=values.get("store") or values.get("collector") or own_store(),
        token=values.get("token") or _own_token(origins),
        keys_file=_path(values.get("keys_file")),
        accept=accept,
        ca_file=_path(values.get("ca_file")),
        bundles=_bundles(values, origins),
        given=origins,
    )


def _bundles(values: Mapping[str, str], origins: Mapping[str, str]) -> BundleLimits:
    limits = {}
    for name, limit, read in (
        ("bundle_size", "max_bytes", parse_bytes),
        ("bundle_files", "max_files", int),
    ):
        if name not in values:
            continue
        try:
            limits[limit] = read(values[name])
        except ValueError as error:
            raise FixThis(f"{name}={values[name]!r} from {origins[name]}: {error}") from error
        if limits[limit] < 1:
            raise FixThis(f"{name}={values[name]!r} from {origins[name]}: it has to be above 0")
    return BundleLimits(**limits)


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value).expanduser()


def _check_collector(url: str | None, origins: Mapping[str, str]) -> None:
    """Anything else would be taken for a folder where the collector's store is meant."""
    if url is not None and not url.startswith(("http://", "https://")):
        raise FixThis(
            f"collector={url!r} from {origins['collector']}: expected a URL such as http://head:8787"
        )


def _own_token(given: Mapping[str, str]) -> str | None:
    """The token that a collector of this user's made on this machine, where no other is meant."""
    if "collector" in given:
        return None
    try:
        return (data_home() / OWN_TOKEN).read_text().strip() or None
    except OSError:
        return None


def _sources(arguments: Mapping[str, str | None]) -> list[tuple[str, Mapping[str, Any]]]:
    prefix = "QUEUE_RUNNER_"
    environment = {
        key.removeprefix(prefix).lower(): value
        for key, value in os.environ.items()
        if key.startswith(prefix) and value
    }
    config_home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return [
        ("the command line", {key: value for key, value in arguments.items() if value}),
        ("the environment", environment),
        *_toml(Path("queue-runner.toml")),
        *_toml(Path(config_home) / "queue-runner" / "config.toml"),
    ]


def _toml(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        with path.open("rb") as source:
            table = tomllib.load(source)
    except FileNotFoundError:
        return []
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise FixThis(f"{path}: {error}") from error
    known = {*NAMES, *FILES, *LIMITS, *(f"{name}_file" for name in NAMES)}
    _check_accept(table.get("accept", {}), path)
    for key, value in table.items():
        if key == "accept":
            continue
        if key not in known or not isinstance(value, str):
            raise FixThis(f"{path}: {key}: expected one of {', '.join(sorted(known))}, each a text")
    return [(str(path), table)]


def _check_accept(rules: object, path: Path) -> None:
    if not isinstance(rules, dict):
        raise FixThis(f"{path}: accept: expected a table of rules: {', '.join(RULES)}")
    for name, patterns in rules.items():
        if name not in RULES:
            raise FixThis(f"{path}: accept.{name}: no such rule{nearest(name, RULES)}")
        if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
            raise FixThis(f"{path}: accept.{name}: expected a list of patterns, each a text")


def _lookup(name: str, source: Mapping[str, Any], origin: str) -> str | None:
    if name in source:
        return str(source[name])
    path = source.get(f"{name}_file")
    if path is None:
        return None
    try:
        return Path(path).expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FixThis(f"the {name} file named by {origin}: {error}") from error
