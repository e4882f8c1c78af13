"""Kind `openfoam`: a case folder, and assignments to the entries of its dictionaries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from queue_runner.plugins import nearest
from queue_runner.study.kinds.base import Place, StudyKind, Template, whole
from queue_runner.study.kinds.command import text, texts
from queue_runner.study.problems import Problems
from queue_runner.study.schema import Argv, Count, Env, Strict

#: What a run of the template may have left in it.
_RESULTS = ("processor[0-9]*", "postProcessing", "log.*")


class Decompose(Strict):
    method: Literal["simple", "hierarchical", "scotch", "ptscotch", "metis", "kahip", "manual"]
    n: list[Count] | None = None
    coeffs: dict[str, Any] = {}


class StepModel(Strict):
    run: Argv
    parallel: bool = False


def _step(value: object) -> object:
    return value if isinstance(value, Mapping) else {"run": value}


FoamStep = Annotated[
    StepModel, BeforeValidator(_step, json_schema_input_type=str | list[Any] | StepModel)
]


class OpenFoamSection(Strict):
    case: str
    set: dict[str, dict[str, Any]] = {}
    add: dict[str, dict[str, Any]] = {}
    ranks: Count = 1
    decompose: Decompose | None = None
    steps: list[FoamStep] | None = Field(default=None, min_length=1)
    env: Env = {}


class OpenFoamStudy(StudyKind):
    Section = OpenFoamSection

    def template(self, section: OpenFoamSection, place: Place) -> Template | None:
        return place.template(section.case, _RESULTS)

    def spec(self, section: OpenFoamSection, names: Sequence[str]) -> Mapping[str, Any]:
        decompose = section.decompose
        return {
            "set": list(_assignments(section.set)),
            "add": list(_assignments(section.add)),
            "steps": None
            if section.steps is None
            else [step.model_dump() for step in section.steps],
            "ranks": section.ranks,
            "decompose": None if decompose is None else decompose.model_dump(),
            "env": section.env,
        }

    def finish(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        steps = spec["steps"]
        if steps is not None:
            steps = [{**step, "run": [text(word) for word in step["run"]]} for step in steps]
        return {
            **spec,
            "steps": steps,
            "ranks": whole(spec["ranks"], "openfoam.ranks"),
            "decompose": _decompose(spec["decompose"]),
            "env": texts(spec["env"]),
        }

    def ranks(self, section: OpenFoamSection) -> int | str:
        ranks: int | str = section.ranks
        return ranks

    def measure(self, measure: Mapping[str, Any]) -> Mapping[str, Any]:
        if measure.get("openfoam") is not None:
            return measure
        # nobody asked for these: a job without a solver in it has none
        default = {
            "optional": True,
            "residuals": True,
            "time": True,
            "execution_time": True,
            "fields": {},
            "functions": [],
        }
        return {**measure, "openfoam": default}

    def check(self, section: OpenFoamSection, place: Place, problems: Problems) -> list[str]:
        case = place.find(section.case)
        if not (case / "system" / "controlDict").is_file():
            problems.add(
                ("openfoam", "case"),
                f"{section.case!r} is no OpenFOAM case: it has no system/controlDict",
            )
            return []
        for name, must_exist in (("set", True), ("add", False)):
            for file, entries in getattr(section, name).items():
                _check_file(case, file, entries, ("openfoam", name, file), problems, must_exist)
        return []


def _assignments(files: Mapping[str, Mapping[str, Any]]) -> Iterator[list[Any]]:
    for file, entries in files.items():
        for entry, value in entries.items():
            yield [file, entry, value]


def _decompose(decompose: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if decompose is None or decompose["n"] is None:
        return decompose
    return {**decompose, "n": [whole(count, "openfoam.decompose.n") for count in decompose["n"]]}


# -- what the template holds -------------------------------------------------------------------------


def _check_file(
    case: Path,
    file: str,
    entries: Mapping[str, Any],
    path: tuple[str, ...],
    problems: Problems,
    must_exist: bool,
) -> None:
    found = (case / file).resolve()
    if not found.is_relative_to(case) or PurePosixPath(file).is_absolute():
        problems.add(path, f"{file!r} leads outside the case folder")
    elif found.is_file() or found.with_name(found.name + ".gz").is_file():
        if must_exist:
            _check_entries(found, file, entries, path, problems)
    elif must_exist:
        files = [each.relative_to(case).as_posix() for each in case.rglob("*") if each.is_file()]
        problems.add(path, f"there is no file {file!r} in the case{nearest(file, files)}")


def _check_entries(
    found: Path, file: str, entries: Mapping[str, Any], path: tuple[str, ...], problems: Problems
) -> None:
    # a second to import, and only checks of OpenFOAM studies need it
    from foamlib import FoamFile

    try:
        known = {"/".join(keys) for keys in _keys(FoamFile(found).as_dict())}
    except Exception as error:  # noqa: BLE001 - whatever its parser raises, the file is what is wrong
        problems.add(path, f"foamlib cannot read {file!r}: {error}")
        return
    bare = {entry.replace('"', "") for entry in known}
    for entry in entries:
        if entry.replace('"', "") not in bare and not _may_be_included(entry, known):
            problems.add((*path, entry), f"there is no such entry in {file}{nearest(entry, known)}")


def _may_be_included(entry: str, known: set[str]) -> bool:
    """Whether only the worker can tell: an #include or a $macro may bring the entry in."""
    parts = entry.split("/")
    above = {"/".join(parts[:depth]) for depth in range(len(parts))}
    return any(
        name.rpartition("/")[2].startswith(("#", "$")) and name.rpartition("/")[0] in above
        for name in known
    )


def _keys(entries: Mapping[Any, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in entries.items():
        if key is None:
            continue
        yield (*above, str(key))
        if isinstance(value, Mapping):
            yield from _keys(value, (*above, str(key)))
