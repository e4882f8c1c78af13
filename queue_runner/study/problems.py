"""What is wrong with a study, all of it at once: where, what was found, what was expected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from queue_runner.errors import StudyError

#: Where in the document: keys and list positions from the top.
Path = tuple[str | int, ...]
#: Turns a path into the start of a line of the error, such as `study.yaml:12: `.
Locator = Callable[[Path], str]

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Problem:
    path: Path
    text: str

    def line(self, locate: Locator) -> str:
        where = field_name(self.path)
        return f"{locate(self.path)}{where}{': ' if where else ''}{self.text}"


@dataclass(slots=True)
class Problems:
    """Collects problems; `check` raises them together."""

    locate: Locator
    found: list[Problem] = field(default_factory=list)

    def add(self, path: Path, text: str) -> None:
        self.found.append(Problem(path, text))

    def check(self) -> None:
        """Raises `StudyError`, one line per problem, where there is any."""
        if not self.found:
            return
        lines = [problem.line(self.locate) for problem in self.found]
        more = f"\n... and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise StudyError("\n".join(lines[:_SHOWN]) + more)


def field_name(path: Path) -> str:
    """`openfoam.set.0/U[2]` for a path."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def short(value: object) -> str:
    """A value as it is quoted in a message."""
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
