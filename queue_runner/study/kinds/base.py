"""The contract of a study kind: the half of a kind that the researcher's side needs.

Its counterpart on the worker is `queue_runner.workers.kinds.base.Kind`; what passes between them is the
`spec` of each job. A plug-in registers both, in the entry point groups `queue_runner.study_kinds` and
`queue_runner.kinds`, under the name that study files write.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from queue_runner.paths import leads_into
from queue_runner.study.problems import Problems

GROUP = "queue_runner.study_kinds"


@dataclass(frozen=True, slots=True)
class Template:
    """The folder that every job of a study starts from; `exclude` are globs of what stays out."""

    folder: Path
    exclude: tuple[str, ...] = ()


#: Where `run`, `verify` and `rerun` put what they make, unless they are told otherwise.
_OURS = tuple(each for name in ("runs", "verified", "again") for each in (name, f"{name}/*"))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a study's relative paths start; `confined`: they may not lead out of `folder`."""

    folder: Path
    confined: bool
    #: file names in `folder` that belong to the study, not to its template
    own: tuple[str, ...] = ()

    def find(self, path: str) -> Path:
        """Raises `ValueError` for a path that leads outside, in words for the user."""
        if self.confined and not leads_into(self.folder / path, self.folder):
            raise ValueError(f"{path!r} leads outside the study file's folder")
        return (self.folder / path).resolve()

    def template(self, path: str, exclude: Sequence[str] = ()) -> Template:
        """A folder of the study; results and the study file itself stay out of the study's own folder.

        They would make every run of it another study.
        """
        folder = self.find(path)
        if not folder.is_dir():
            raise ValueError(f"there is no folder {path!r} in {self.folder}")
        at_home = folder == self.folder.resolve()
        return Template(folder, (*exclude, *((*_OURS, *self.own) if at_home else ())))


class StudyKind(ABC):
    """Stateless. `section` is always an instance of `Section`."""

    #: Model of the kind's section; derive it from `queue_runner.study.schema.Strict`.
    Section: ClassVar[type[BaseModel]]
    #: Globs of the files that a job writes, its logs aside.
    outputs: ClassVar[tuple[str, ...]] = ("**",)

    #: Whether its jobs know by themselves what they can go on from; else the study says it.
    resumes: ClassVar[bool] = False

    def template(self, section: Any, place: Place) -> Template | None:
        """The folder to send with the jobs. Raises `ValueError`: (text) for one that is not there."""
        return None

    @abstractmethod
    def spec(self, section: Any, names: Sequence[str]) -> Mapping[str, Any]:
        """The jobs' spec, with the braces still in its texts; `names` are the study's parameters."""

    def finish(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """Last changes to a spec whose braces were filled. Raises `ValueError` for a wrong value."""
        return spec

    def ranks(self, section: Any) -> int | str:
        """A number or text with braces: how many processes, and by default cores, a job takes."""
        return 1

    def measure(self, measure: Mapping[str, Any]) -> Mapping[str, Any]:
        """Adds what this kind measures by default."""
        return measure

    def check(self, section: Any, place: Place, problems: Problems) -> list[str]:
        """Looks at the template: adds problems; returns warnings."""
        return []

    def check_resume(self, section: Any, place: Place, problems: Problems) -> list[str]:
        """As `check`, for what only matters where jobs go on from checkpoints."""
        return []


def whole(value: object, field: str) -> int:
    """A count of at least 1 out of what braces gave. Raises `ValueError`."""
    if isinstance(value, str):
        with suppress(ValueError):  # then it is no number, which is said below
            value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
        raise ValueError(f"{field}: expected a whole number from 1, found {value!r:.60}")
    return value
