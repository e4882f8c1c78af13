"""Read a study file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from queue_runner import plugins
from queue_runner.errors import StudyError, UnknownScheme
from queue_runner.study.document import Document
from queue_runner.study.kinds.base import GROUP, Place
from queue_runner.study.schema import StudyModel
from queue_runner.study.study import Study


def load_study(path: str | Path) -> Study:
    """The study in a YAML file. Raises `StudyError`: one line per problem, with file, line and field."""
    file = Path(path)
    if file.is_dir():
        raise StudyError(
            f"{file} is a folder; name the study file in it, such as {file}/study.yaml"
        )
    document = Document(file)
    if not isinstance(document.value, Mapping):
        raise StudyError(f"{file.name}: expected a map that starts with `study: NAME`")
    place = Place(file.parent, confined=True, own=(file.name,))
    study = Study.from_document(document.value, place, document.locate)
    study.verify()
    return study


def json_schema() -> dict[str, Any]:
    """The JSON Schema of study files, with the sections of all installed kinds."""
    schema = StudyModel.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    kinds = []
    for name in plugins.names(GROUP):
        try:
            section = plugins.load(GROUP, name).Section.model_json_schema()
        except UnknownScheme:
            continue  # a broken plug-in is named when a study wants its kind
        definitions.update(section.pop("$defs", {}))
        schema["properties"][name] = section
        kinds.append({"properties": {"kind": {"const": name}}, "required": [name]})
    schema["properties"]["kind"] = {"enum": plugins.names(GROUP)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "queue-runner study",
        **{key: value for key, value in schema.items() if key != "title"},
        "oneOf": kinds,
    }
