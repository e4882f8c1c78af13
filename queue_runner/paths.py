"""Where a path leads, links followed, when somebody else has made the links."""

from __future__ import annotations

from pathlib import Path


def leads_into(path: Path, folder: Path) -> bool:
    """Whether it ends in `folder` or below. Links that lead to each other lead nowhere."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        # Python 3.11 says the second of a ring, 3.13 the first
        return False
