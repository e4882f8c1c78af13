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
    source: str
    sha: str


def _load(name: str, head: str = _ALLOW_OOM) -> Script:
    folder = files(__package__) / "lua"
    parts = [(folder / f"{part}.lua").read_text("utf-8") for part in ("common", name)]
    source = head + "\n".join(parts)
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


PUBLISH = _load("publish", _DENY_OOM)
LEASE = _load("lease")
RENEW = _load("renew")
SETTLE = _load("settle")
DEPTH = _load("depth")
REPLAY = _load("replay")
PURGE = _load("purge")
