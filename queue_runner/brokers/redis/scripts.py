"""The scripts that run on the server, each with the words they share in front."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

#: Leasing and settling must go on when the server is out of memory, or it would never get out of it;
#: only `publish` is refused. https://redis.io/docs/latest/develop/programmability/eval-intro/#script-flags
_ALLOW_OOM = "#!lua flags=allow-oom\n"
_DENY_OOM = "#!lua\n"


@dataclass(frozen=True, slots=True)
class Script:
    """`stores`: what it did must not be undone when a primary fails."""

    source: str
    sha: str
    stores: bool


def _load(name: str, head: str = _ALLOW_OOM, stores: bool = False) -> Script:
    folder = files(__package__) / "lua"
    parts = [(folder / f"{part}.lua").read_text("utf-8") for part in ("common", name)]
    source = head + "\n".join(parts)
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(source, sha, stores)


PUBLISH = _load("publish", _DENY_OOM, stores=True)
# a claim that is undone costs a second run of its job at most, and waiting for it would cost every lease
LEASE = _load("lease")
RENEW = _load("renew")
SETTLE = _load("settle", stores=True)
DEPTH = _load("depth")
REPLAY = _load("replay", stores=True)
PURGE = _load("purge")
