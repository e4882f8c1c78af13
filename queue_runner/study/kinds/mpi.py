"""Kind `mpi`: a program on several ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from queue_runner.study.kinds.base import Place, StudyKind, Template, whole
from queue_runner.study.kinds.command import text, texts
from queue_runner.study.schema import Argv, Count, Env, Scalars, Strict


class MpiSection(Strict):
    files: str | None = None
    build: list[Argv] = []
    program: str
    args: list[Scalars] = []
    ranks: Count
    env: Env = {}
    mpiexec_args: list[str] = []


class MpiStudy(StudyKind):
    Section = MpiSection

    def template(self, section: MpiSection, place: Place) -> Template | None:
        return None if section.files is None else place.template(section.files)

    def spec(self, section: MpiSection, names: Sequence[str]) -> Mapping[str, Any]:
        return section.model_dump(exclude={"files"})

    def finish(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        return {
            **spec,
            "program": text(spec["program"]),
            "args": [text(word) for word in spec["args"]],
            "build": [[text(word) for word in step] for step in spec["build"]],
            "ranks": whole(spec["ranks"], "mpi.ranks"),
            "env": texts(spec["env"]),
        }

    def ranks(self, section: MpiSection) -> int | str:
        ranks: int | str = section.ranks
        return ranks
