"""Look-up of plug-ins (kinds, study kinds, runtimes) through entry points, with errors that help."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from queue_runner.errors import UnknownScheme


def names(group: str) -> list[str]:
    """The names of all installed plug-ins of a group, sorted."""
    return sorted(_points(group))


@cache
def load(group: str, name: str) -> Any:
    """The object behind the entry point `name` of `group`.

    Raises `UnknownScheme` for a name that is not installed, or whose module cannot be imported.
    """
    found = _points(group)
    what = group.rpartition(".")[2].replace("_", " ").removesuffix("s")
    if name not in found:
        raise UnknownScheme(f"no {what} {name!r} is installed{nearest(name, found)}")
    try:
        return found[name].load()
    except Exception as error:  # a plug-in may raise anything at import
        raise UnknownScheme(
            f"the {what} {name!r} ({found[name].value}) cannot be loaded:"
            f" {type(error).__name__}: {error}"
        ) from error


@cache
def _points(group: str) -> Mapping[str, EntryPoint]:
    """What is installed does not change under a running program, and looking takes milliseconds."""
    return {point.name: point for point in entry_points(group=group)}


def near(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing: where there are too many to name."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or `; known: a, b, c` where nothing is near."""
    choices = list(known)
    if meant := near(name, choices):
        return meant
    shown = ", ".join(sorted(choices)[:12]) + (", ..." if len(choices) > 12 else "")
    return f"; known: {shown}" if choices else ""
