"""Kind `command`: programs with parameters among their arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import model_validator

from queue_runner.study.kinds.base import Place, StudyKind, Template
from queue_runner.study.schema import Argv, Env, Strict


class CommandSection(Strict):
    files: str | None = None
    run: Argv | None = None
    steps: list[Argv] = []
    env: Env = {}

    @model_validator(mode="after")
    def _one_of(self) -> CommandSection:
        if (self.run is None) == (not self.steps):
            raise ValueError("either `run` or `steps`")
        return self


class CommandStudy(StudyKind):
    Section = CommandSection

    def template(self, section: CommandSection, place: Place) -> Template | None:
        return None if section.files is None else place.template(section.files)

    def spec(self, section: CommandSection, names: Sequence[str]) -> Mapping[str, Any]:
        return {"steps": section.steps or [section.run], "env": section.env}

    def finish(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        steps = [[text(word) for word in step] for step in spec["steps"]]
        return {"steps": steps, "env": texts(spec["env"])}


def text(value: object) -> str:
    """A value as an argument or an environment variable."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def texts(env: Mapping[str, Any]) -> dict[str, str]:
    return {name: text(value) for name, value in env.items()}
