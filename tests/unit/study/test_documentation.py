"""Every YAML block of docs/study-files.md and the README is checked as it stands, where it fits."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from queue_runner.model import Reason
from queue_runner.study import Study, load_study
from queue_runner.study.expressions import FUNCTIONS

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "study-files.md").read_text()
README = (ROOT / "README.md").read_text()

COMMAND = 'kind: command\ncommand: {run: [echo, "{nu}{speed}{u}{v}"]}\n'
PARAMETERS = "parameters: {nu: [0.01, 0.02], speed: [1, 2]}\n"


def blocks(text: str) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def completed(block: str) -> str:
    """The block with what a study needs beside it."""
    if block.startswith("study:"):
        return block
    head = "study: documented\n"
    section = block.split(":")[0]
    if section == "zip":
        sampled = "{sample: {min: 1, max: 2}}"
        names = f"parameters: {{nu: [1, 2], speed: [1, 2], u: {sampled}, v: 1}}\n"
        return head + names + COMMAND.replace("{v}", "{v}{a}{b}") + block
    if section in ("openfoam", "mpi", "command", "python"):
        names = "parameters: {nu: 0.1, speed: 1, x: [1, 2], n: [10, 20], ranks: [1, 2]}\n"
        return f"{head}kind: {section}\n{names}{block}"
    if section == "measure":
        case = (
            'kind: openfoam\nopenfoam: {case: case, set: {0/U: {internalField: "{nu}{speed}"}}}\n'
        )
        return head + PARAMETERS + case + block
    if block.startswith("resume: true"):
        return completed('openfoam: {case: case, env: {A: "{nu}{speed}{x}{n}{ranks}"}}\n') + block
    return head + PARAMETERS + COMMAND.replace("{u}{v}", "") + block


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples" / "cavity" / "case", tmp_path / "case")
    for name in ("src", "scripts"):
        (tmp_path / name).mkdir()
    (tmp_path / "points.csv").write_text("a,b\n1,2\n3,4\n")
    return tmp_path


@pytest.mark.parametrize("block", [*blocks(GUIDE), *blocks(README)])
def test_yaml_blocks(folder: Path, block: str) -> None:
    file = folder / "study.yaml"
    file.write_text(completed(block))
    study = load_study(file)
    assert study.check().jobs > 0 or study.open


def test_every_function_and_reason_is_listed() -> None:
    assert [name for name in FUNCTIONS if not re.search(rf"\b{name}\b", GUIDE)] == []
    unlisted = {Reason.WORKER_LOST}
    assert [each for each in Reason if f"`{each}`" not in GUIDE and each not in unlisted] == []


def test_every_field_of_a_study_is_named() -> None:
    from queue_runner.study import json_schema

    schema = json_schema()
    fields = set(schema["properties"])
    for name in ("Retries", "ResourcesModel", "LogPattern", "OpenFoamMeasure", "ContainerModel"):
        fields |= set(schema["$defs"][name]["properties"])
    assert sorted(name for name in fields if not re.search(rf"\b{name}\b", GUIDE)) == []


def test_the_study_of_the_readme_in_python() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    defined, _, last = code.rpartition("print(")
    names: dict[str, object] = {}
    exec(defined, names)  # the text of our own README  # noqa: S102
    study = names["study"]
    assert isinstance(study, Study)
    assert study.total == 5
    assert last == "run(study).table())\n"
