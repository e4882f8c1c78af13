"""What all attempts of a worker share, and the kinds that it knows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from queue_runner import plugins
from queue_runner.errors import JobError, UnknownScheme
from queue_runner.model import Reason
from queue_runner.store import Store
from queue_runner.workers.acceptance import ANYTHING, Acceptance
from queue_runner.workers.bundles import Bundles
from queue_runner.workers.handover import Handovers
from queue_runner.workers.kinds.base import Kind
from queue_runner.workers.runtimes.base import Runtime

KINDS = "queue_runner.kinds"


@dataclass(frozen=True, slots=True)
class Workplace:
    """What all attempts of a worker share.

    folder: holds a folder for each running attempt; kept: where finished ones go that are to stay
    (`keep`: "none", "failed" or "all"). handovers: None where no attempt is handed over.
    """

    worker: str
    runtime: Runtime
    runtime_name: str
    store: Store
    bundles: Bundles
    folder: Path
    kept: Path
    keep: str
    accept: Acceptance = ANYTHING
    handovers: Handovers | None = None


def find_kind(name: str) -> Kind:
    """The kind of that name. Raises `JobError`."""
    try:
        return _kind(name)
    except UnknownScheme as error:
        raise JobError(Reason.BROKEN_KIND, f"on this worker, {error}") from error


def missing_kind(name: str) -> JobError | None:
    """Why there is no such kind here; None where there is."""
    try:
        find_kind(name)
    except JobError as error:
        return error
    return None


@cache
def _kind(name: str) -> Kind:
    kind: Kind = plugins.load(KINDS, name)()
    return kind
