"""Kind `openfoam`: a case folder, and assignments to the entries of its dictionaries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from queue_runner.openfoam import cases, entries
from queue_runner.paths import leads_into
from queue_runner.plugins import nearest
from queue_runner.study.kinds.base import Place, StudyKind, Template, whole
from queue_runner.study.kinds.command import text, texts
from queue_runner.study.problems import Problems
from queue_runner.study.schema import Argv, Count, Env, Strict

#: What a run of the template may have left in it.
_RESULTS = ("processor*[0-9]*", "postProcessing", "log.*")
_OF_THE_LOG = ("residuals", "time", "execution_time")
#: Assignments to these decide when the run starts, which only the worker can tell.
_STARTS = ("startFrom", "startTime")


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
    resumes = True
    outputs = ("[0-9]*/**", "processor*/[0-9]*/**", "postProcessing/**")

    def template(self, section: OpenFoamSection, place: Place) -> Template | None:
        found = place.template(section.case, _RESULTS)
        return replace(found, exclude=(*found.exclude, *_leftovers(section, found.folder)))

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
        asked = measure.get("openfoam") or {"fields": {}, "functions": []}
        # nobody asked for these: a solver may print none of them
        optional = [name for name in _OF_THE_LOG if asked.get(name) is None]
        return {
            **measure,
            "openfoam": {**asked, **dict.fromkeys(optional, True), "optional": optional},
        }

    def check(self, section: OpenFoamSection, place: Place, problems: Problems) -> list[str]:
        case = place.find(section.case)
        if not (case / "system" / "controlDict").is_file():
            problems.add(
                ("openfoam", "case"),
                f"{section.case!r} is no OpenFOAM case: it has no system/controlDict",
            )
            return []
        for name, must_exist in (("set", True), ("add", False)):
            for file, wanted in getattr(section, name).items():
                _check_values(wanted, ("openfoam", name, file), problems)
                near = _made_from(case, file)
                _check_file(case, near, wanted, ("openfoam", name, file), problems, must_exist)
        return _warnings(section, case)

    def check_resume(self, section: OpenFoamSection, place: Place, problems: Problems) -> list[str]:
        case = place.find(section.case)
        try:
            said = cases.control(case)
            assigned = _assigned(section)
            writing = cases.writing(case, assigned)
        except ValueError:
            # `check` says what is wrong with the file
            return []
        if why := _why_not_resumed(section, case, said.application):
            problems.add(("resume",), why)
        if writing.purge == 1:
            problems.add(
                ("resume",),
                "with purgeWrite 1 there is no time that is surely whole while the next is written;"
                " set it to 2 or more in system/controlDict",
            )
        if writing.exact:
            return []
        return [
            "resume: an attempt goes on from rounded numbers; writeFormat binary (or writePrecision"
            " 17) in system/controlDict gives the digits of an uninterrupted run"
        ]


def _assigned(section: OpenFoamSection) -> dict[str, Any]:
    return {**section.set.get(cases.CONTROL, {}), **section.add.get(cases.CONTROL, {})}


def _why_not_resumed(section: OpenFoamSection, case: Path, application: str | None) -> str | None:
    if section.steps is None:
        if not (case / "Allrun").is_file():
            return None
        return "no job can go on in the middle of Allrun; name the programs in openfoam.steps"
    count = [step.run[0] for step in section.steps].count(application or "")
    if count == 1:
        return None
    return (
        f"a job goes on with the application of controlDict, {application}, which has to be one of"
        f" openfoam.steps, once; it is there {count} times"
    )


def _leftovers(section: OpenFoamSection, case: Path) -> list[str]:
    """Time folders of an earlier run, which the worker would drop before it runs."""
    try:
        said = cases.control(case)
    except ValueError:
        # `check` says what is wrong with the file, or the worker, where no check is made
        return []
    assigned = _assigned(section)
    runs = section.steps is None or any(said.application in step.run for step in section.steps)
    return [] if not runs or assigned.keys() & set(_STARTS) else cases.leftovers(case, said)


def _made_from(case: Path, file: str) -> str:
    """The file of `0.orig` for one of `0`, where the worker makes the one from the other."""
    if file.startswith("0/") and not (case / "0").exists():
        original = f"0.orig/{file.removeprefix('0/')}"
        return original if (case / "0.orig").is_dir() else file
    return file


def _warnings(section: OpenFoamSection, case: Path) -> list[str]:
    try:
        said = cases.control(case)
    except ValueError as error:
        return [f"openfoam.case: {error}"]
    latest = list(cases.times(case))[-1:]
    if said.starts_from == "latestTime" and latest and float(latest[0]) > 0:
        return [
            f"openfoam.case: each job goes on from time {latest[0]}, the latest in the case, as its"
            " controlDict says (startFrom latestTime)"
        ]
    return []


def _assignments(files: Mapping[str, Mapping[str, Any]]) -> Iterator[list[Any]]:
    for file, wanted in files.items():
        for entry, value in wanted.items():
            yield [file, entry, value]


def _decompose(decompose: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if decompose is None or decompose["n"] is None:
        return decompose
    return {**decompose, "n": [whole(count, "openfoam.decompose.n") for count in decompose["n"]]}


# -- what the template holds -------------------------------------------------------------------------


def _check_values(wanted: Mapping[str, Any], path: tuple[str, ...], problems: Problems) -> None:
    for entry, value in wanted.items():
        if isinstance(value, Mapping):
            _check_values(value, (*path, entry), problems)
        elif value is None:
            # YAML ends a name at a comma between { and }
            cut = entry.count("(") > entry.count(")")
            why = "; a name with a comma in it needs quotes, such as 'div(phi,U)'" if cut else ""
            problems.add((*path, entry), f"there is no value{why}")


def _check_file(
    case: Path,
    file: str,
    wanted: Mapping[str, Any],
    path: tuple[str, ...],
    problems: Problems,
    must_exist: bool,
) -> None:
    if not leads_into(case / file, case) or PurePosixPath(file).is_absolute():
        problems.add(path, f"{file!r} leads outside the case folder")
        return
    found = (case / file).resolve()
    if found.is_file() or found.with_name(found.name + ".gz").is_file():
        if must_exist:
            _check_entries(case, found, wanted, path, problems)
    elif must_exist:
        files = [each.relative_to(case).as_posix() for each in case.rglob("*") if each.is_file()]
        problems.add(path, f"there is no file {file!r} in the case{nearest(file, files)}")


def _check_entries(
    case: Path, found: Path, wanted: Mapping[str, Any], path: tuple[str, ...], problems: Problems
) -> None:
    try:
        known = entries.read(case, found)
    except ValueError as error:
        problems.add(path, str(error))
        return
    for entry in wanted:
        if why := known.missing(entry):
            problems.add((*path, entry), f"there is {why}")
