"""What a case was solved with, from the head of its solver's log."""

from __future__ import annotations

import re
from pathlib import Path

from queue_runner.workers.leavings import lines_of

_HEAD_LINES = 40
# Debian leaves the version of the banner empty
_VERSION = re.compile(r"\|\s*Version:\s+([^\s|]+)|^Build\s*:.*\bOPENFOAM=(\S+)")
_BUILD = re.compile(r"^Build\s*:\s*(.+?)\s*$")


def solver(log: Path) -> dict[str, str]:
    """Version and build of OpenFOAM as the solver printed them; nothing where it printed no head."""
    facts: dict[str, str] = {}
    if not log.is_file():
        return facts
    with lines_of(log) as lines:
        for _, line in zip(range(_HEAD_LINES), lines, strict=False):
            if found := _VERSION.search(line):
                facts.setdefault("openfoam", found[1] or found[2])
            if found := _BUILD.match(line):
                facts["openfoam_build"] = found[1]
    return facts
