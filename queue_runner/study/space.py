"""The parameter space: a grid of blocks, whose points are computed when they are asked for."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from queue_runner.errors import StudyError
from queue_runner.model import Scalar
from queue_runner.plugins import nearest
from queue_runner.study.expressions import CONSTANTS, FUNCTIONS, Expression, ExpressionError
from queue_runner.study.parameters import Sampled, fault_of, parse_parameter
from queue_runner.study.problems import Locator, Path, Problems, field_name, short
from queue_runner.study.sampling import METHODS, draw

#: That `where` goes through; and that anybody waits for.
MAX_POINTS = 10_000_000
FEWER = "Take fewer values, draw a sample, or make several studies of it"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Block:
    """Parameters that vary together: one column of values for each name, all of one length."""

    names: tuple[str, ...]
    columns: tuple[Sequence[Scalar], ...]

    def __len__(self) -> int:
        return len(self.columns[0])


class Space:
    """All points of a study, in their order.

    names: parameters in column order, derived ones last; before: how many points there are before
    `where`; locate: finds the line of an expression that has no value at a point; open: parameters whose
    values are given later, point by point: then there are no points here.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        derived: Mapping[str, Expression],
        where: Sequence[Expression],
        locate: Locator,
        open: Sequence[str] = (),
    ) -> None:
        self._blocks, self._derived, self._where = tuple(blocks), dict(derived), tuple(where)
        self._locate = locate
        self.open = tuple(open)
        given = (*open, *(name for block in blocks for name in block.names))
        self.names = (*given, *derived)
        self.before = 0 if open else math.prod(len(block) for block in blocks)
        self._total: int | None = None if where else self.before

    @property
    def used(self) -> set[str]:
        """The parameters that `derived` and `where` need."""
        return set().union(*(each.names for each in (*self._derived.values(), *self._where)))

    @property
    def conditional(self) -> bool:
        """Whether there is a `where`."""
        return bool(self._where)

    @property
    def total(self) -> int:
        """How many points there are. Goes through all of them where there is a `where`."""
        if self._total is None:
            self._total = sum(1 for _ in self.points())
        return self._total

    def total_of(self, most: int) -> int:
        """How many there are among the first `most` before `where`."""
        return self.total if most >= self.before else sum(1 for _ in self.points(most=most))

    def points(self, start: int = 0, most: int | None = None) -> Iterator[dict[str, Scalar]]:
        """The points from number `start` on, of the first `most` before `where`.

        Raises `StudyError` where an expression has no value.
        """
        end = self.before if most is None else min(self.before, most)
        if not self._where:
            return (self._point(number) for number in range(start, end))
        kept = (point for number in range(end) if self._holds(point := self._point(number)))
        for _ in range(start):
            next(kept, None)
        return kept

    def points_at(self, numbers: Iterable[int]) -> Iterator[tuple[int, dict[str, Scalar]]]:
        """Those of the points with these numbers, which come in their order, that there are."""
        if not self._where:
            yield from ((each, self._point(each)) for each in numbers if 0 <= each < self.before)
            return
        wanted = iter(numbers)
        next_one = next(wanted, None)
        for number, point in enumerate(self.points()):
            if next_one is None:
                return
            if number == next_one:
                yield number, point
                next_one = next(wanted, None)

    def _point(self, number: int) -> dict[str, Scalar]:
        point: dict[str, Scalar] = {}
        places = []
        for block in reversed(self._blocks):
            number, place = divmod(number, len(block))
            places.append(place)
        for block, place in zip(self._blocks, reversed(places), strict=True):
            for name, column in zip(block.names, block.columns, strict=True):
                point[name] = column[place]
        return self._derive(point)

    def complete(self, values: Mapping[str, object]) -> dict[str, Scalar]:
        """The point of an open study with these values of its parameters. Raises `StudyError`."""
        for name in values:
            if name not in self.open:
                hint = nearest(str(name), self.open)
                raise StudyError(f"the study has no parameter {name!r} that is open{hint}")
        point: dict[str, Scalar] = {}
        for name in self.open:
            if name not in values:
                raise StudyError(f"no value of {name!r} in the point {short(dict(values))}")
            value: Any = values[name]
            if (fault := fault_of(value)) is not None:
                raise StudyError(f"{name}: {fault}")
            point[name] = value
        return self._derive(point)

    def _derive(self, point: dict[str, Scalar]) -> dict[str, Scalar]:
        for name, expression in self._derived.items():
            point[name] = self._value(expression, point, ("derived", name))
        return point

    def _holds(self, point: Mapping[str, Scalar]) -> bool:
        return all(
            self._value(condition, point, ("where", number))
            for number, condition in enumerate(self._where)
        )

    def _value(self, expression: Expression, point: Mapping[str, Scalar], path: Path) -> Scalar:
        try:
            return expression.value(point)
        except ExpressionError as error:
            raise StudyError(
                f"{self._locate(path)}{field_name(path)}: {error} at the point {describe(point)}"
            ) from error


def describe(point: Mapping[str, Scalar]) -> str:
    values = (f"{name}={value!s:.60}" for name, value in point.items())
    return ", ".join(values) or "(no parameters)"


def make_space(document: Mapping[str, Any], problems: Problems) -> Space | None:
    """The space of a study's document; None where problems were added."""
    before = len(problems.found)
    opened = document.get("open") or []
    if opened:
        _check_open(document, problems)
    blocks = [*_point_blocks(document.get("points"), problems), *_blocks(document, problems)]
    seen: set[str] = set()
    for name in opened:
        _check_name(name, seen, problems, "open")
        seen.add(name)
    for block in blocks:
        for name in block.names:
            _check_name(name, seen, problems)
            seen.add(name)
    derived = _derived(document.get("derived") or {}, seen, problems)
    where = _where(document.get("where") or [], seen, problems)
    if len(problems.found) > before:
        return None
    space = Space(blocks, derived, where, problems.locate, opened)
    if where and space.before > MAX_POINTS:
        problems.add(
            ("where",),
            f"it would go through {space.before} points, of which the limit is {MAX_POINTS}. {FEWER}",
        )
        return None
    return space


def _check_open(document: Mapping[str, Any], problems: Problems) -> None:
    for section in ("parameters", "zip", "sample", "points", "where"):
        if document.get(section):
            problems.add(
                (section,), "an open study is given its points later: leave this out, or `open`"
            )


def _check_name(name: str, seen: set[str], problems: Problems, section: str = "parameters") -> None:
    if name in seen:
        problems.add((section, name), "there are two parameters of this name")
    elif not _NAME.fullmatch(name):
        problems.add((section, name), "a parameter's name has letters a-z, A-Z, digits and _ only")
    elif name in {*FUNCTIONS, *CONSTANTS, "point"} or keyword.iskeyword(name):
        problems.add((section, name), f"{name!r} has a meaning in expressions; choose another name")


# -- parameters, zip, sample -------------------------------------------------------------------------


def _blocks(document: Mapping[str, Any], problems: Problems) -> list[Block]:
    plain: dict[str, Sequence[Scalar]] = {}
    sampled: dict[str, Sampled] = {}
    for name, value in (document.get("parameters") or {}).items():
        parsed = parse_parameter(value, ("parameters", name), problems)
        if isinstance(parsed, Sampled):
            sampled[name] = parsed
        elif parsed is not None:
            plain[name] = parsed
    blocks = _zipped(plain, document, problems)
    drawn = _drawn(sampled, document.get("sample"), problems)
    return [*blocks, *([drawn] if drawn else [])]


def _zipped(
    plain: Mapping[str, Sequence[Scalar]], document: Mapping[str, Any], problems: Problems
) -> list[Block]:
    groups: dict[str, tuple[str, ...]] = {}
    for number, group in enumerate(document.get("zip") or []):
        if _good_group(group, ("zip", number), plain, groups, document, problems):
            groups.update(dict.fromkeys(group, tuple(group)))
    blocks, done = [], set()
    for name in plain:
        members = groups.get(name, (name,))
        if members not in done:
            done.add(members)
            blocks.append(Block(members, tuple(plain[member] for member in members)))
    return blocks


def _good_group(
    group: Any,
    path: Path,
    plain: Mapping[str, Sequence[Scalar]],
    taken: Mapping[str, object],
    document: Mapping[str, Any],
    problems: Problems,
) -> bool:
    before = len(problems.found)
    for place, name in enumerate(group):
        if name in taken or name in group[:place]:
            problems.add((*path, place), f"{name!r} is in two groups, or twice in one")
        elif name not in plain and name not in (document.get("parameters") or {}):
            problems.add((*path, place), f"no parameter {name!r}{nearest(str(name), plain)}")
        elif name not in plain and len(problems.found) == before:
            problems.add((*path, place), f"{name!r} is sampled or wrong, and cannot be zipped")
    lengths = {name: len(plain[name]) for name in group if name in plain}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        problems.add(path, f"expected lists of the same length; {counts}")
    return len(problems.found) == before


def _drawn(
    sampled: Mapping[str, Sampled], settings: Mapping[str, Any] | None, problems: Problems
) -> Block | None:
    if not sampled:
        if settings is not None:
            problems.add(("sample",), "there is no parameter of the form {sample: ...} to draw")
        return None
    if settings is None:
        names = ", ".join(sampled)
        problems.add(
            (), f"'sample' is missing, for {names}: such as {{method: sobol, count: 64, seed: 1}}"
        )
        return None
    method, count, seed = (settings.get(key) for key in ("method", "count", "seed"))
    if method not in METHODS or not isinstance(count, int) or not isinstance(seed, int):
        return None  # the schema has said so
    points = draw(method, len(sampled), min(count, MAX_POINTS), seed)
    columns = tuple(
        [parameter.at(point[place]) for point in points]
        for place, parameter in enumerate(sampled.values())
    )
    return Block(tuple(sampled), columns)


# -- points ------------------------------------------------------------------------------------------


def _point_blocks(points: Any, problems: Problems) -> list[Block]:
    if points is None:
        return []
    if isinstance(points, Mapping):
        columns, rows = points.get("columns") or [], points.get("rows") or []
    elif isinstance(points, list):
        columns, rows = _rows_of_maps(points, problems)
    else:
        problems.add(("points",), f"expected a CSV file or a list of maps, found {short(points)}")
        return []
    if not columns or not rows:
        problems.add(("points",), "expected at least one row and one column")
        return []
    for number, row in enumerate(rows):
        if not isinstance(row, list | tuple) or len(row) != len(columns):
            problems.add(("points", number), f"expected {len(columns)} values, found {short(row)}")
        elif (fault := next(filter(None, map(fault_of, row)), None)) is not None:
            problems.add(("points", number), fault)
        if len(problems.found) > 50:
            break
    if problems.found:
        return []
    return [Block(tuple(map(str, columns)), tuple(zip(*rows, strict=True)))]


def _rows_of_maps(points: list[Any], problems: Problems) -> tuple[list[str], list[list[Any]]]:
    first = points[0] if points else {}
    if not isinstance(first, Mapping):
        problems.add(("points", 0), f"expected a map of parameters to values, found {short(first)}")
        return [], []
    names, rows = list(first), []
    for number, row in enumerate(points):
        if not isinstance(row, Mapping) or set(row) != set(names):
            problems.add(
                ("points", number),
                f"expected a map of {', '.join(map(str, names))}, as in the first row, found {short(row)}",
            )
            return [], []
        rows.append([row[name] for name in names])
    return names, rows


# -- derived, where ----------------------------------------------------------------------------------


def _derived(
    entries: Mapping[str, Any], known: set[str], problems: Problems
) -> dict[str, Expression]:
    derived = {}
    for name, text in entries.items():
        _check_name(name, known, problems, "derived")
        try:
            derived[name] = Expression(text, known)
        except ExpressionError as error:
            problems.add(("derived", name), _too_early(name, text, known, entries) or str(error))
        known.add(name)
    return derived


def _too_early(name: str, text: object, known: set[str], entries: Mapping[str, Any]) -> str | None:
    """What to say of an expression that is right, but for parameters that come further down."""
    try:
        needed = Expression(text, known | set(entries)).names - known
    except ExpressionError:
        return None
    if name in needed:
        return f"{text!r}: {name!r} is computed from itself"
    later = ", ".join(sorted(needed))
    return f"{text!r}: {later} comes further down; derived parameters are computed in their order"


def _where(entries: Sequence[Any], known: set[str], problems: Problems) -> list[Expression]:
    where = []
    for number, text in enumerate([entries] if isinstance(entries, str) else entries):
        try:
            where.append(Expression(text, known))
        except ExpressionError as error:
            problems.add(("where", number), str(error))
    return where
