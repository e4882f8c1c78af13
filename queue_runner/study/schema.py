"""The fields of a study that all kinds share, as pydantic models, and errors in plain words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from queue_runner.bounds import MAX_PATTERN, MAX_STARS
from queue_runner.model import CHECKPOINT_S, MAX_PRIORITY, Reason
from queue_runner.plugins import nearest
from queue_runner.study.parameters import is_scalar
from queue_runner.study.problems import Path, Problems, short
from queue_runner.units import parse_bytes, parse_seconds

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
_IMAGE = r"^[a-z0-9][a-z0-9._/:-]*(:[A-Za-z0-9_][A-Za-z0-9._-]*)?(@sha256:[0-9a-f]{64})?$"
_NETWORK = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
_QUEUE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Strict(BaseModel):
    """Base of every section: no conversions, no unknown fields. Plug-ins' sections use it too."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


def _scalar(value: object) -> object:
    if not is_scalar(value):
        raise ValueError("a number, text or true/false")
    return value


def _words(value: object) -> object:
    """A step: text is a program without arguments; numbers among the arguments are fine."""
    if isinstance(value, str):
        if any(map(str.isspace, value.strip())):
            raise ValueError(
                "a list of arguments such as [./solve.sh, --x, '{x}'], for there is no shell in"
                " between; [sh, -c, '...'] asks for one"
            )
        return [value]
    if not isinstance(value, list | tuple) or not value or not all(map(is_scalar, value)):
        raise ValueError("a list of arguments such as [./solve.sh, --x, '{x}']")
    return [str(word).lower() if isinstance(word, bool) else str(word) for word in value]


def _whole(value: object) -> object:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not good and not (isinstance(value, str) and "{" in value):
        raise ValueError('a whole number from 1, or "{expression}"')
    return value


def _within(value: object) -> object:
    """A path or glob in the job's own folder."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("the name of a file, or a pattern such as 'postProcessing/**'")
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or value.startswith("~"):
        raise ValueError("a path in the job's folder, without / before it and without ..")
    if any("**" in part and part != "**" for part in path.parts):
        raise ValueError("a pattern in which ** is a whole part, such as 'postProcessing/**/*.dat'")
    if path.parts.count("**") > MAX_STARS:
        raise ValueError(f"a pattern with ** at most {MAX_STARS} times")
    return value


Within = Annotated[str, BeforeValidator(_within), WithJsonSchema({"type": "string"})]
Scalars = Annotated[
    Any, BeforeValidator(_scalar), WithJsonSchema({"type": ["number", "string", "boolean"]})
]
Argv = Annotated[
    list[str],
    BeforeValidator(_words),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": ["string", "number", "boolean"]}},
            ]
        }
    ),
]
Count = Annotated[
    Any,
    BeforeValidator(_whole),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
]
Env = dict[str, Scalars]
Bytes = Annotated[int, BeforeValidator(parse_bytes), WithJsonSchema({"type": ["number", "string"]})]
Seconds = Annotated[
    float, BeforeValidator(parse_seconds), WithJsonSchema({"type": ["number", "string"]})
]


class Sample(Strict):
    """How the parameters of the form `{sample: ...}` are drawn, all together."""

    method: Literal["random", "latin-hypercube", "sobol"]
    count: int = Field(ge=1, le=10_000_000)
    seed: int = Field(ge=0, lt=2**63)


class ResourcesModel(Strict):
    cores: Count | None = None
    memory: Bytes | None = None
    disk: Bytes | None = None
    wall_time: Seconds | None = None


def _reason(value: object) -> object:
    known = [each.value for each in Reason]
    if value not in known:
        hint = nearest(str(value), known).removeprefix("; ")
        raise ValueError(f"a reason of failure ({hint.removesuffix('?')})")
    return value


class Retries(Strict):
    count: int = Field(ge=0, le=1000)
    on: list[
        Annotated[
            str, BeforeValidator(_reason), WithJsonSchema({"enum": [each.value for each in Reason]})
        ]
    ] = []
    first: Seconds = 1.0
    factor: float = Field(default=2.0, ge=1, le=100)
    max: Seconds = 300.0


class LogPattern(Strict):
    pattern: str
    take: Literal["last", "first", "min", "max", "mean", "sum", "count"] = "last"
    file: Within | None = None
    optional: bool = False

    @model_validator(mode="after")
    def _has_a_value(self) -> LogPattern:
        if len(self.pattern) > MAX_PATTERN:
            raise ValueError(f"a regular expression of at most {MAX_PATTERN} characters")
        try:
            groups = re.compile(self.pattern).groups
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"a regular expression ({error})") from error
        if not groups and self.take != "count":
            raise ValueError(
                r"a regular expression with a group around the value, such as 'y = (\S+)'"
            )
        return self


class OpenFoamMeasure(Strict):
    #: not said: what the solver's log has of them
    residuals: bool | None = None
    time: bool | None = None
    execution_time: bool | None = None
    fields: dict[Within, list[Literal["min", "max", "mean"]]] = {}
    functions: list[Within] = []


def _pattern(value: object) -> object:
    return {"pattern": value} if isinstance(value, str) else value


class Measure(Strict):
    metrics: Within | None = None
    log: dict[
        str,
        Annotated[LogPattern, BeforeValidator(_pattern, json_schema_input_type=str | LogPattern)],
    ] = {}
    openfoam: OpenFoamMeasure | None = None


def _retries(value: object) -> object:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return {"count": value} if whole else value


_PARAMETERS = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [
            {"type": ["number", "string", "boolean", "array"]},
            *(
                {
                    "type": "object",
                    "properties": {form: {"type": "array" if form == "values" else "object"}},
                    "required": [form],
                    "additionalProperties": False,
                }
                for form in ("values", "linear", "log", "range", "sample")
            ),
        ]
    },
}


def _bytes(value: object) -> object:
    return parse_bytes(value) if isinstance(value, str) else value


def _isolated(value: object) -> object:
    if value == "host":
        raise ValueError("none, bridge or the name of a Docker network; the host's own is not lent")
    return value


class ContainerModel(Strict):
    """What a job's container is allowed beyond the least."""

    network: Annotated[str, BeforeValidator(_isolated), Field(pattern=_NETWORK)] = "none"
    shm: Annotated[int | None, BeforeValidator(_bytes)] = None
    cpuset: bool = False


class ResumeModel(Strict):
    """An attempt goes on from the last checkpoint of the one before."""

    every: Seconds = CHECKPOINT_S
    keep: list[Within] = []


def _resume(value: object) -> object:
    if isinstance(value, bool):
        return {} if value else None
    return value


class StudyModel(Strict):
    """All of a study but its kind's own section."""

    study: str = Field(pattern=_NAME)
    description: str = ""
    kind: str
    parameters: Annotated[dict[str, Any], WithJsonSchema(_PARAMETERS)] = {}
    zip: list[list[str]] = []
    sample: Sample | None = None
    points: Annotated[Any, WithJsonSchema({"type": ["string", "array", "object"]})] = None
    open: list[str] = []
    derived: dict[str, Scalars] = {}
    where: Annotated[
        list[str],
        BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
        WithJsonSchema({"type": ["array", "string"], "items": {"type": "string"}}),
    ] = []
    measure: Measure = Measure()
    resources: ResourcesModel = ResourcesModel()
    retries: Annotated[Retries, BeforeValidator(_retries, json_schema_input_type=int | Retries)] = (
        Retries(count=0)
    )
    resume: Annotated[
        ResumeModel | None, BeforeValidator(_resume, json_schema_input_type=bool | ResumeModel)
    ] = None
    keep: list[Within] = []
    queue: str = Field(default="default", pattern=_QUEUE)
    priority: int = Field(default=0, ge=0, le=MAX_PRIORITY)
    worker: str | None = Field(default=None, min_length=1, max_length=200)
    image: str | None = Field(default=None, pattern=_IMAGE)
    container: ContainerModel = ContainerModel()


#: How others call what a study has.
_OTHER_WORDS = {
    "name": "study", "type": "kind", "params": "parameters", "variables": "parameters",
    "constraints": "where", "constraint": "where", "conditions": "where", "filter": "where",
    "csv": "points", "table": "points", "sampling": "sample", "expressions": "derived",
    "metrics": "measure", "outputs": "measure", "artifacts": "keep", "timeout": "resources",
}  # fmt: skip
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a map",
    "list_type": "a list",
    "model_type": "a map",
    "model_attributes_type": "a map",
    "dataclass_type": "a map",
    "none_required": "nothing",
}
_PATTERNS = {
    _NAME: "a name of letters, digits, - and _ (at most 64)",
    _IMAGE: "an image such as queue-runner/openfoam:latest, with or without @sha256:...",
    _NETWORK: "none, bridge, or the name of a Docker network",
    _QUEUE: "a name of letters, digits, ., - and _ (at most 64)",
}


def validate(model: type[BaseModel], value: object, path: Path, problems: Problems) -> Any:
    """`value` as the model, or None where problems were added."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            problems.add(_path(path, detail), _text(model, detail))
    return None


def _path(path: Path, detail: Mapping[str, Any]) -> Path:
    place = tuple(part for part in detail["loc"] if part != "[key]")
    return (*path, *(place[:-1] if detail["type"] == "missing" else place))


def _text(model: type[BaseModel], detail: Mapping[str, Any]) -> str:
    kind, found, context = detail["type"], detail.get("input"), detail.get("ctx") or {}
    if kind == "missing":
        return f"{detail['loc'][-1]!r} is missing"
    if kind == "extra_forbidden":
        name = str(detail["loc"][-1])
        if model is StudyModel and len(detail["loc"]) == 1 and name in _OTHER_WORDS:
            return f"unknown field; it is called {_OTHER_WORDS[name]!r} here"
        return f"unknown field{nearest(name, _siblings(model, detail['loc']))}"
    if kind == "value_error":
        text = str(context.get("error", detail["msg"]))
        return text if " is not " in text else f"expected {text}, found {short(found)}"
    return f"expected {_expected(kind, context)}, found {short(found)}"


def _expected(kind: str, context: Mapping[str, Any]) -> str:
    bounds = {
        "greater_than_equal": ("ge", "at least"),
        "less_than_equal": ("le", "at most"),
        "greater_than": ("gt", "more than"),
        "less_than": ("lt", "less than"),
    }
    if kind in bounds:
        name, words = bounds[kind]
        return f"{words} {context[name]}"
    if kind == "literal_error":
        return f"one of {context['expected']}".replace("'", "")
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], f"text that matches {context['pattern']}")
    return _EXPECTED.get(kind, "another value")


def _siblings(model: type[BaseModel], place: tuple[str | int, ...]) -> list[str]:
    """The fields known where an unknown one was met."""
    here: Any = model
    for part in place[:-1]:
        field = (
            here.model_fields.get(str(part))
            if isinstance(here, type) and issubclass(here, BaseModel)
            else None
        )
        here = _model_in(field.annotation) if field is not None else here
    if not (isinstance(here, type) and issubclass(here, BaseModel)):
        return []
    return [field.alias or name for name, field in here.model_fields.items()]


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inside = [_model_in(part) for part in getattr(annotation, "__args__", ())]
    return next((model for model in inside if model is not None), None)
