"""Who may say what: messages carry an HMAC-SHA256 with a named key, made for one place.

See docs/security.md for what that protects from, and what it does not.
"""

from __future__ import annotations

from pathlib import Path

from queue_runner.signing.file import KeyFile
from queue_runner.signing.purposes import (
    CONTROL,
    HEARTBEATS,
    REQUESTS,
    RESULTS,
    for_client,
    for_collector,
    for_worker,
    on_queue,
)
from queue_runner.signing.replays import Heard
from queue_runner.signing.seal import UNSIGNED, Keyed, Seal, Unsigned

__all__ = [
    "CONTROL",
    "HEARTBEATS",
    "REQUESTS",
    "RESULTS",
    "UNSIGNED",
    "Heard",
    "KeyFile",
    "Keyed",
    "Seal",
    "Unsigned",
    "for_client",
    "for_collector",
    "for_worker",
    "on_queue",
    "open_seal",
]


def open_seal(keys_file: Path | None, *, guarded: bool = True) -> Seal:
    """A seal with the keys in that file, or one that signs nothing. Raises `KeysRefused`.

    guarded: whether a file that others can read is refused.
    """
    return UNSIGNED if keys_file is None else Keyed(KeyFile(keys_file, guarded=guarded))
