"""Kind `python`: a function, called with the parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from queue_runner.study.kinds.base import Place, StudyKind, Template
from queue_runner.study.schema import Strict

_CALL = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"


class PythonSection(Strict):
    files: str | None = None
    call: str = Field(pattern=_CALL)
    args: dict[str, Any] | None = None


class PythonStudy(StudyKind):
    Section = PythonSection

    def template(self, section: PythonSection, place: Place) -> Template | None:
        return None if section.files is None else place.template(section.files)

    def spec(self, section: PythonSection, names: Sequence[str]) -> Mapping[str, Any]:
        all_parameters = {name: f"{{{name}}}" for name in names}
        args = all_parameters if section.args is None else section.args
        return {"call": section.call, "args": args}
