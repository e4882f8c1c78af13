"""`{expression}` in text: compiled once per study, filled in for each point."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from queue_runner.study.expressions import Expression, ExpressionError

#: Gives the value for a point; `used` are the parameters that it needs.
Fill = Callable[[Mapping[str, Any]], Any]

#: Texts with braces in one study, and characters in what each of them may become.
_MAX_TEXTS, _MAX_CHARACTERS = 10_000, 100_000

_FORMAT = re.compile(r"[<>=^]?[-+ ]?#?0?\d{0,2}[,_]?(\.\d{1,2})?[bcdeEfFgGnosxX%]?")


class Template:
    """Any plain structure with braces in its texts."""

    def __init__(self, value: Any, known: Iterable[str]) -> None:
        """Raises `ExpressionError`."""
        self._known = frozenset(known)
        self.used: set[str] = set()
        self._texts = 0
        self._fill = self._compile(value)
        self._constant = None if self._fill else value

    def fill(self, point: Mapping[str, Any]) -> Any:
        """The structure with every pair of braces replaced. Raises `ExpressionError`."""
        return self._fill(point) if self._fill else self._constant

    # `None` stands for a part without braces, which is shared by all jobs instead of built again
    def _compile(self, value: Any) -> Fill | None:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return _mapping(value, {key: self._compile(each) for key, each in value.items()})
        if isinstance(value, list | tuple):
            return _sequence(value, [self._compile(each) for each in value])
        return None

    def _text(self, text: str) -> Fill | None:
        parts = list(_parts(text))
        if all(isinstance(part, str) for part in parts):
            literal = "".join(map(str, parts))
            return None if literal == text else lambda point: literal
        self._texts += 1
        if self._texts > _MAX_TEXTS:
            raise ExpressionError(f"{text!r:.60}: more than {_MAX_TEXTS} texts with braces")
        if len(parts) == 1 and isinstance(parts[0], tuple) and not parts[0][1]:
            return self._value(parts[0][0])
        return _joined([self._part(part) for part in parts], text)

    def _part(self, part: str | tuple[str, str]) -> Fill:
        if isinstance(part, str):
            return lambda point: part
        value, form = self._value(part[0]), part[1]
        if not form:
            return lambda point: _written(value(point))
        if not _FORMAT.fullmatch(form):
            raise ExpressionError(f"{{{part[0]}:{form}}}: {form!r} is not a format such as .3f")
        return lambda point: _formatted(value(point), form)

    def _value(self, text: str) -> Fill:
        expression = Expression(text, self._known)
        self.used |= expression.names
        name = expression.text
        if name in expression.names:
            return lambda point: point[name]
        return expression.value


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _formatted(value: Any, form: str) -> str:
    try:
        return format(value, form)
    except (ValueError, TypeError, OverflowError) as error:
        raise ExpressionError(f"{value!r} cannot be written as {form!r}: {error}") from error


def _joined(parts: list[Fill], text: str) -> Fill:
    def join(point: Mapping[str, Any]) -> str:
        joined, length = [], 0
        for part in parts:
            joined.append(part(point))
            length += len(joined[-1])
            if length > _MAX_CHARACTERS:
                raise ExpressionError(
                    f"{text!r:.60} becomes a text of more than {_MAX_CHARACTERS} characters"
                )
        return "".join(joined)

    return join


def _mapping(value: Mapping[str, Any], fills: Mapping[str, Fill | None]) -> Fill | None:
    if not any(fills.values()):
        return None
    moving = [(key, fill) for key, fill in fills.items() if fill]
    fixed = dict(value)
    return lambda point: {**fixed, **{key: fill(point) for key, fill in moving}}


def _sequence(value: Iterable[Any], fills: list[Fill | None]) -> Fill | None:
    if not any(fills):
        return None
    moving = [(place, fill) for place, fill in enumerate(fills) if fill]
    fixed = list(value)

    def fill_in(point: Mapping[str, Any]) -> list[Any]:
        filled = fixed.copy()
        for place, fill in moving:
            filled[place] = fill(point)
        return filled

    return fill_in


def _parts(text: str) -> Iterable[str | tuple[str, str]]:
    """Literal texts, and (expression, format) pairs."""
    place, literal = 0, ""
    while place < len(text):
        character = text[place]
        if text[place : place + 2] in ("{{", "}}"):
            literal += character
            place += 2
        elif character == "{":
            if literal:
                yield literal
                literal = ""
            expression, form, place = _braced(text, place)
            yield expression, form
        elif character == "}":
            raise ExpressionError(f"{text!r:.80}: a single '}}'; write '}}}}' for the brace itself")
        else:
            literal += character
            place += 1
    if literal:
        yield literal


def _braced(text: str, start: int) -> tuple[str, str, int]:
    """The expression and the format of the braces that open at `start`, and the place after them."""
    quote, depth, colon = "", 0, 0
    for place in range(start + 1, len(text)):
        character = text[place]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and not colon:
            quote = character
        elif character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
        elif character == ":" and depth == 0 and not colon:
            colon = place
        elif character == "}":
            end = colon or place
            return text[start + 1 : end], text[colon + 1 : place] if colon else "", place + 1
    raise ExpressionError(
        f"{text!r:.80}: a '{{' without its '}}'; write '{{{{' for the brace itself"
    )
