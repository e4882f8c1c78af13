"""`resume` in a study file: what a job goes on from, and what stands in its way."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from queue_runner.errors import StudyError
from queue_runner.model import Resume
from queue_runner.study import load_study
from queue_runner.wire import decode, encode

CASE = Path(__file__).parents[3] / "examples" / "cavity" / "case"
COMMAND = "study: s\nkind: command\nparameters: {x: [1]}\ncommand: {run: [solve, '{x}']}\n"
FOAM = (
    "study: s\nkind: openfoam\nparameters: {x: [1]}\nopenfoam:\n  case: case\n  env: {X: '{x}'}\n"
)


def write(folder: Path, text: str) -> Path:
    if not (folder / "case").exists():
        shutil.copytree(CASE, folder / "case")
    (folder / "s.yaml").write_text(text)
    return folder / "s.yaml"


@pytest.mark.parametrize(
    ("text", "resume"),
    [
        (COMMAND, None),
        (COMMAND + "resume: false", None),
        (COMMAND + "resume: {keep: [state.*]}", Resume(600.0, ("state.*",))),
        (COMMAND + "resume: {every: 1 h, keep: [a, b/**]}", Resume(3600.0, ("a", "b/**"))),
        (FOAM + "resume: true", Resume()),
        (FOAM + "resume: {every: 90 s}", Resume(90.0)),
    ],
)
def test_what_jobs_are_told(tmp_path: Path, text: str, resume: Resume | None) -> None:
    job = load_study(write(tmp_path, text)).job(0, None)
    assert job.resume == resume
    assert decode(encode(job), type(job)) == job


def test_a_study_that_resumes_is_the_same_study(tmp_path: Path) -> None:
    ids = {load_study(write(tmp_path, FOAM + more)).id(None) for more in ("", "resume: true")}
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (COMMAND + "resume: true", "s.yaml:5: resume: say which files a job goes on from, such as"),
        (COMMAND + "resume: {every: 1 h}", "s.yaml:5: resume: say which files"),
        (
            COMMAND + "resume: {keep: [../a]}",
            "s.yaml:5: resume.keep[0]: expected a path in the job",
        ),
        (
            COMMAND + "resume: {evry: 1 h}",
            "s.yaml:5: resume.evry: unknown field; did you mean 'every'",
        ),
        (COMMAND + "resume: 3", "s.yaml:5: resume: expected a map, found 3"),
        (FOAM + "resume: {keep: [a]}", "s.yaml:7: resume.keep: kind openfoam knows by itself"),
        (FOAM + "resume: {every: 0}", "s.yaml:7: resume.every: 0 is not a time such as"),
    ],
)
def test_slips(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(write(tmp_path, text))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("more", "control", "said"),
    [
        ("  steps: [blockMesh]\n", "", "icoFoam, which has to be one of openfoam.steps, once; it is there 0"),
        ("  steps: [icoFoam, icoFoam]\n", "", "it is there 2 times"),
        ("", "purgeWrite 1;", "with purgeWrite 1 there is no time that is surely whole"),
        ("  add: {system/controlDict: {purgeWrite: 1}}\n", "", "with purgeWrite 1"),
        ("Allrun", "", "no job can go on in the middle of Allrun"),
    ],
)  # fmt: skip
def test_cases_that_cannot_go_on(tmp_path: Path, more: str, control: str, said: str) -> None:
    case = Path(shutil.copytree(CASE, tmp_path / "case"))
    with (case / "system/controlDict").open("a") as out:
        out.write(control)
    if more == "Allrun":
        (case / "Allrun").write_text("#!/bin/sh\n")
        more = ""
    with pytest.raises(StudyError) as caught:
        load_study(write(tmp_path, f"{FOAM}{more}resume: true")).check()
    assert said in str(caught.value)
    load_study(write(tmp_path, f"{FOAM}{more}")).check()


@pytest.mark.parametrize(
    ("more", "warned"),
    [
        ("", True),
        ("  add: {system/controlDict: {writeFormat: binary}}\n", False),
        ("  set: {system/controlDict: {writePrecision: 17}}\n", False),
        (
            "  steps: [blockMesh, icoFoam]\n  set: {system/controlDict: {writePrecision: 17}}\n",
            False,
        ),
    ],
)
def test_rounded_numbers_are_warned_of(tmp_path: Path, more: str, warned: bool) -> None:
    found = load_study(write(tmp_path, f"{FOAM}{more}resume: true")).check().warnings
    assert any("rounded numbers" in each for each in found) == warned
