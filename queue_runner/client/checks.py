"""What is installed, reachable, missing, and what to do about it: the checks behind `doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from queue_runner.brokers.registry import connect, redacted
from queue_runner.client.config import Config
from queue_runner.client.http import HttpRecords
from queue_runner.errors import KeysRefused, QueueRunnerError
from queue_runner.images.engine import engine_errors, open_engine
from queue_runner.signing.file import read_key_file
from queue_runner.store import open_store


class Level(StrEnum):
    OK = "ok"
    NOTE = "note"  # not there, and needed only for some uses
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """`fix` says what to do, where there is something to do."""

    name: str
    level: Level
    detail: str
    fix: str = ""


_EXPIRES_SOON_S = 30 * 86_400.0
#: Seconds that an engine gets for one answer.
_ENGINE_S = 10.0

_OPTIONAL = (
    ("scipy", "sampling", "Latin hypercube and Sobol samples"),
    ("matplotlib", "plot", "plots"),
    ("polars", "table", "Parquet files and data frames"),
    ("psycopg", "postgres", "a collector on PostgreSQL"),
)


def examine(config: Config) -> Iterator[Finding]:
    """Every check, one after the other; none of them changes anything."""
    yield _python()
    yield from _packages()
    yield _openfoam()
    yield _mpi()
    yield _engine()
    yield from _broker(config)
    yield from _collector(config)
    yield _store(config)
    yield _signing(config)


def _python() -> Finding:
    detail = f"queue-runner {version('queue-runner')}, Python {platform.python_version()}"
    return Finding("python", Level.OK, f"{detail} ({sys.executable})")


def _packages() -> Iterator[Finding]:
    for module, extra, purpose in _OPTIONAL:
        if find_spec(module) is None:
            fix = f"pip install 'queue-runner[{extra}]'"
            yield Finding(module, Level.NOTE, f"not installed; needed for {purpose}", fix)
        else:
            yield Finding(module, Level.OK, f"{_version(module)}, for {purpose}")


def _version(module: str) -> str:
    try:
        return version(module)
    except PackageNotFoundError:
        return "installed"


def _openfoam() -> Finding:
    from queue_runner.workers.openfoam.locate import describe

    return _described("openfoam", describe, "kind openfoam", "apt-get install openfoam (Debian)")


def _mpi() -> Finding:
    from queue_runner.workers.mpi import describe

    fix = "apt-get install openmpi-bin libopenmpi-dev, or pip install 'queue-runner[mpi]'"
    return _described("mpi", describe, "kind mpi and parallel OpenFOAM", fix)


def _described(name: str, describe: Callable[[], str], purpose: str, fix: str) -> Finding:
    try:
        return Finding(name, Level.OK, describe())
    except QueueRunnerError as error:
        return Finding(name, Level.NOTE, f"{error} Needed for {purpose}.", fix)


def _engine() -> Finding:
    where = os.environ.get("DOCKER_HOST", "the usual socket")
    try:
        with open_engine(timeout_s=_ENGINE_S) as engine, engine_errors():
            told = engine.version()
    except QueueRunnerError as error:
        fix = "start the Docker engine, or set DOCKER_HOST; needed only for containers"
        return Finding("docker", Level.NOTE, str(error), fix)
    return Finding("docker", Level.OK, f"engine {told['Version']} at {where}")


def _broker(config: Config) -> Iterator[Finding]:
    url, given = redacted(config.broker), "broker" in config.given
    try:
        with connect(config.broker) as broker:
            server = broker.server(timeout_s=5.0)
    except (QueueRunnerError, ValueError) as error:
        fix = "start it, or name another with --broker or QUEUE_RUNNER_BROKER"
        # without any setting nobody may want one: `run` brings its own
        level = Level.FAILED if given else Level.NOTE
        yield Finding("broker", level, f"{url}: {str(error).removeprefix(f'{url}: ')}", fix)
        return
    yield Finding("broker", Level.OK, f"{url}: {server.product} {server.version}")
    for warning in server.warnings:
        yield Finding("broker", Level.WARNING, warning)


def _collector(config: Config) -> Iterator[Finding]:
    try:
        records = HttpRecords(config.collector, config.token, config.ca_file)
        try:
            studies = records.studies()
        finally:
            records.close()
    except QueueRunnerError as error:
        level = Level.FAILED if "collector" in config.given else Level.NOTE
        detail, start, advice = str(error).partition("Start one")
        yield Finding("collector", level, detail.strip(), start + advice)
        return
    yield Finding("collector", Level.OK, f"{config.collector}: {len(studies)} studies")


def _store(config: Config) -> Finding:
    try:
        store = open_store(config.store, config.store_token, config.ca_file)
        with closing(store), tempfile.TemporaryFile() as probe:
            probe.write(b"queue-runner store check\n")
            probe.seek(0)
            store.put(probe)
    except QueueRunnerError as error:
        fix = "name another with --store or QUEUE_RUNNER_STORE"
        return Finding("store", Level.FAILED, f"{config.store}: {error}", fix)
    return Finding("store", Level.OK, f"{config.store}: writable{_free(config.store)}")


def _signing(config: Config) -> Finding:
    if config.keys_file is None:
        # without a broker of their own, messages do not leave the process
        level = Level.WARNING if "broker" in config.given else Level.NOTE
        detail = "no keys: who can write to the broker can have workers run anything"
        return Finding("signing", level, detail, "queue-runner keys new; see docs/security.md")
    try:
        keys = read_key_file(config.keys_file)
        signer = keys.signer(time.time())
    except KeysRefused as error:
        text = str(error).removeprefix(f"{config.keys_file}: ")
        return Finding("signing", Level.FAILED, f"{config.keys_file}: {text}")
    detail = f"{config.keys_file}: keys {', '.join(sorted(keys.keys))}; {signer.name} signs"
    if not signer.may_sign(time.time() + _EXPIRES_SOON_S):
        fix = "make the next key in good time: docs/security.md, Rotation"
        return Finding("signing", Level.WARNING, f"{detail}, and expires within 30 days", fix)
    return Finding("signing", Level.OK, detail)


def _free(url: str) -> str:
    if not url.startswith("file://"):
        return ""
    usage = shutil.disk_usage(Path(url.removeprefix("file://")))
    return f", {usage.free // 1024**3} GiB free"
