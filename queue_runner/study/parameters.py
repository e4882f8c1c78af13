"""One entry of `parameters`: a sequence of values, or something that the study samples."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, overload

from queue_runner.model import Scalar
from queue_runner.plugins import nearest
from queue_runner.study.problems import Path, Problems, short

#: A parameter may not have more values; a space may, if `points` streams them.
_MAX_VALUES = 10_000_000
_FORMS = ("values", "linear", "log", "range", "sample")


def linear(start: float, stop: float, count: int) -> dict[str, Any]:
    """`count` evenly spaced values from `start` to `stop`, both included."""
    return {"linear": {"from": start, "to": stop, "count": count}}


def log(start: float, stop: float, count: int) -> dict[str, Any]:
    """`count` values evenly spaced in the logarithm from `start` to `stop`, both included."""
    return {"log": {"from": start, "to": stop, "count": count}}


def range_(start: float, stop: float, step: float = 1) -> dict[str, Any]:
    """start, start + step, ... up to and including `stop`."""
    return {"range": {"from": start, "to": stop, "step": step}}


def sample(
    low: float, high: float, *, scale: str = "linear", integer: bool = False
) -> dict[str, Any]:
    """Drawn between `low` and `high` by the study's `sample` method; scale: `linear` or `log`."""
    return {"sample": {"min": low, "max": high, "scale": scale, "integer": integer}}


@dataclass(frozen=True, slots=True)
class Sampled:
    """A parameter that is drawn: `integer` for whole numbers, both ends included."""

    low: float
    high: float
    logarithmic: bool
    integer: bool

    def at(self, unit: float) -> Scalar:
        """The value for a number drawn from [0, 1)."""
        low, high = self.low, self.high + (1 if self.integer else 0)
        value = low * (high / low) ** unit if self.logarithmic else low + unit * (high - low)
        if self.integer:
            return min(int(self.high), max(math.ceil(self.low), math.floor(value)))
        return min(self.high, max(self.low, value))


class Computed(Sequence[Scalar]):
    """Values that are computed when they are asked for."""

    def __init__(self, count: int, at: Callable[[int], Scalar]) -> None:
        self._count, self._at = count, at

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Scalar: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Scalar]: ...
    def __getitem__(self, index: int | slice) -> Scalar | Sequence[Scalar]:
        if isinstance(index, slice):
            return [self._at(each) for each in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._at(index)


def parse_parameter(
    value: Any, path: Path, problems: Problems
) -> Sequence[Scalar] | Sampled | None:
    """The values of one parameter; None where a problem was added."""
    before = len(problems.found)
    parsed = _parse(value, path, problems)
    return parsed if len(problems.found) == before else None


def _parse(value: Any, path: Path, problems: Problems) -> Sequence[Scalar] | Sampled | None:
    if is_scalar(value):
        return _scalars([value], path, problems)
    if isinstance(value, list | tuple):
        return _scalars(list(value), path, problems)
    if not isinstance(value, Mapping) or len(value) != 1:
        problems.add(
            path, f"expected a list of values, or one of {', '.join(_FORMS)}, found {short(value)}"
        )
        return None
    form, body = next(iter(value.items()))
    path = (*path, str(form))
    if form == "values":
        if isinstance(body, list):
            return _scalars(body, path, problems)
        problems.add(path, f"expected a list of values, found {short(body)}")
        return None
    forms = {"linear": _linear, "log": _log, "range": _range, "sample": _sample}
    if form not in forms:
        hint = _NOT_HERE.get(str(form)) or nearest(str(form), _FORMS)
        problems.add(path, f"unknown form of a parameter{hint}")
        return None
    if not isinstance(body, Mapping):
        problems.add(path, f"expected a map such as {_EXAMPLES[form]}, found {short(body)}")
        return None
    return forms[form](body, path, problems)


#: What is said of several parameters at once.
_NOT_HERE = {
    "csv": "; a table of points is 'points: p.csv', beside 'parameters'",
    "zip": "; what varies together is 'zip: [[a, b]]', beside 'parameters'",
    "grid": "; every combination of all parameters is what a study has by default",
}
_EXAMPLES = {
    "linear": "{from: 0, to: 1, count: 5}",
    "log": "{from: 1e-3, to: 1, count: 4}",
    "range": "{from: 0, to: 10, step: 2}",
    "sample": "{min: 0.1, max: 10}",
}


_TRUTHS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_NUMBER_LIKE = re.compile(r"[-+]?(\d+,\d+|\d+(_\d+)+|\d+(\.\d+)?[dD][-+]?\d+)")


def suspicious(parameters: Mapping[str, Any]) -> Iterator[str]:
    """A warning for each text that was probably meant as a number or a truth value."""
    for name, value in parameters.items():
        listed = value.get("values") if isinstance(value, Mapping) else value
        for text in listed if isinstance(listed, list) else [listed]:
            if not isinstance(text, str):
                continue
            if truth := _TRUTHS.get(text.lower()):
                yield f"parameters.{name}: {text!r} is text; the truth value is {truth}"
            elif _NUMBER_LIKE.fullmatch(text):
                yield f"parameters.{name}: {text!r} is text; numbers look like 1000, 0.5 and 1e-3"


def is_scalar(value: object) -> bool:
    return isinstance(value, int | float | str)


def fault_of(value: object) -> str | None:
    """Why this can be no parameter's value; None where it can."""
    if not is_scalar(value):
        return f"expected a number, text or true/false, found {short(value)}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"expected a finite number, found {value}"
    if isinstance(value, int) and value.bit_length() > 63:
        return "expected a whole number of at most 64 bits"
    if isinstance(value, str) and "\0" in value:
        return f"expected text without a NUL character, found {short(value)}"
    return None


def _scalars(values: list[Any], path: Path, problems: Problems) -> list[Scalar]:
    if not values:
        problems.add(path, "expected at least one value")
    for place, value in enumerate(values):
        if (fault := fault_of(value)) is not None:
            problems.add((*path, place), fault)
        if len(problems.found) > 50:
            break
    return values


def _fields(
    body: Mapping[str, Any],
    path: Path,
    problems: Problems,
    *,
    numbers: Sequence[str],
    others: Sequence[str] = (),
) -> bool:
    """Whether `body` has exactly the fields: all `numbers`, and perhaps `others`."""
    before = len(problems.found)
    for key in body:
        if key not in numbers and key not in others:
            problems.add(
                (*path, str(key)), f"unknown field{nearest(str(key), [*numbers, *others])}"
            )
    for key in numbers:
        if key not in body:
            problems.add(path, f"{key!r} is missing; expected {_EXAMPLES[str(path[-1])]}")
        elif not _finite(body[key]):
            problems.add((*path, key), f"expected a number, found {short(body[key])}")
    return len(problems.found) == before


def _finite(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and abs(value) < 1e300  # type: ignore[arg-type]


def _count(body: Mapping[str, Any], path: Path, problems: Problems) -> int | None:
    count = body["count"]
    if not isinstance(count, int) or not 2 <= count <= _MAX_VALUES:
        problems.add(
            (*path, "count"),
            f"expected a whole number from 2 to {_MAX_VALUES}, found {short(count)}",
        )
        return None
    return count


def _tidy(value: float) -> float:
    # 0.1 + 2 * 0.1 is meant to be 0.3: 15 digits is what a double holds of any decimal number
    return float(f"{value:.15g}")


def _linear(body: Mapping[str, Any], path: Path, problems: Problems) -> Sequence[Scalar] | None:
    if not _fields(body, path, problems, numbers=("from", "to", "count")):
        return None
    count = _count(body, path, problems)
    if count is None:
        return None
    first, last = body["from"], body["to"]
    if isinstance(first, int) and isinstance(last, int) and (last - first) % (count - 1) == 0:
        step = (last - first) // (count - 1)
        return Computed(count, lambda place: first + place * step)

    def at(place: int) -> Scalar:
        if place in (0, count - 1):
            return float(last if place else first)
        return _tidy(first + (last - first) * place / (count - 1))

    return Computed(count, at)


def _log(body: Mapping[str, Any], path: Path, problems: Problems) -> Sequence[Scalar] | None:
    if not _fields(body, path, problems, numbers=("from", "to", "count")):
        return None
    count = _count(body, path, problems)
    first, last = body["from"], body["to"]
    for end in ("from", "to"):
        if body[end] <= 0:
            problems.add((*path, end), f"expected a number above 0, found {short(body[end])}")
    if count is None or first <= 0 or last <= 0:
        return None

    def at(place: int) -> Scalar:
        if place in (0, count - 1):
            return float(last if place else first)
        ratio = math.log(last) - math.log(first)
        return _tidy(first * math.exp(ratio * place / (count - 1)))

    return Computed(count, at)


def _range(body: Mapping[str, Any], path: Path, problems: Problems) -> Sequence[Scalar] | None:
    body = {"step": 1, **body}
    if not _fields(body, path, problems, numbers=("from", "to", "step")):
        return None
    # decimals, so that 0, 0.1, ... 0.3 ends at 0.3 and has no 0.30000000000000004 in it
    first, last, step = (Decimal(str(body[key])) for key in ("from", "to", "step"))
    if step == 0 or (last - first) / step < 0:
        problems.add((*path, "step"), f"a step of {step} does not lead from {first} to {last}")
        return None
    count = int((last - first) / step) + 1
    if count > _MAX_VALUES:
        problems.add(path, f"expected at most {_MAX_VALUES} values, found {count}")
        return None
    whole = all(isinstance(body[key], int) for key in ("from", "step"))
    number: type[int] | type[float] = int if whole else float
    return Computed(count, lambda place: number(first + place * step))


def _sample(body: Mapping[str, Any], path: Path, problems: Problems) -> Sampled | None:
    body = {"scale": "linear", "integer": False, **body}
    if not _fields(body, path, problems, numbers=("min", "max"), others=("scale", "integer")):
        return None
    low, high, scale, integer = (body[key] for key in ("min", "max", "scale", "integer"))
    before = len(problems.found)
    if low >= high:
        problems.add((*path, "max"), f"expected a number above min ({low}), found {high}")
    if scale not in ("linear", "log"):
        problems.add((*path, "scale"), f"expected linear or log, found {short(scale)}")
    elif scale == "log" and low <= 0:
        problems.add((*path, "min"), f"expected a number above 0 for a log scale, found {low}")
    if not isinstance(integer, bool):
        problems.add((*path, "integer"), f"expected true or false, found {short(integer)}")
    elif integer and math.floor(high) < math.ceil(low):
        problems.add(path, f"there is no whole number from {low} to {high}")
    if len(problems.found) > before:
        return None
    return Sampled(low, high, scale == "log", integer)
