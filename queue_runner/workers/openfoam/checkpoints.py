"""From where a case can go on: the last time that is written to its end, and all that belongs to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from queue_runner.openfoam import cases
from queue_runner.workers.openfoam.logs import TIME


def last_complete(case: Path, *, ended: bool) -> str | None:
    """The name of the last time after the first that all pieces of a case have whole; None: not yet.

    A time is whole once there is a later one, for OpenFOAM writes one after another; `ended`: the solver
    has ended well, so that its last one is.
    """
    pieces = [list(cases.times(root)) for root in _pieces(case)]
    whole = [set(names[1 : None if ended else -1]) for names in pieces]
    common = set.intersection(*whole)
    return max(common, key=float, default=None)


def _pieces(case: Path) -> list[Path]:
    """The case itself, or its `processor` folders where it is cut up."""
    return sorted(case.glob("processor*[0-9]*")) or [case]


def files(case: Path, time: str) -> tuple[str, ...]:
    """All files of a case but those of times after `time`; links are left out."""
    later = {
        root / name
        for root in (case, *_pieces(case))
        for name, value in cases.times(root).items()
        if value > float(time)
    }
    return tuple(sorted(_files(case, later)))


def _files(case: Path, later: set[Path]) -> Iterator[str]:
    for directory, folders, names in os.walk(case):
        here = Path(directory)
        folders[:] = [name for name in folders if here / name not in later]
        for name in names:
            path = here / name
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(case).as_posix()


def cut_log(log: Path, time: float) -> None:
    """Take out of a solver's log what it printed after `time`, which the next attempt prints again."""
    if not log.is_file():
        return
    with log.open("r+b") as lines:
        end = 0
        for line in lines:
            found = TIME.match(line.decode(errors="replace"))
            if found and float(found[1]) > time * (1 + 1e-9):
                lines.truncate(end)
                return
            end += len(line)
