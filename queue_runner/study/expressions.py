"""Expressions of study files, evaluated by simpleeval: arithmetic on parameters, and nothing else.

simpleeval walks the syntax tree and never calls `eval`; what it would allow beyond the documented
words (attributes, subscripts, f-strings, repetition of text, huge powers) is taken out here.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import simpleeval

from queue_runner.model import Scalar
from queue_runner.plugins import nearest

_MAX_LENGTH = 1000
_MAX_NODES = 500
_MAX_BITS = 4096
_MAX_TEXT = 10_000

CONSTANTS: dict[str, Scalar] = {"pi": math.pi, "e": math.e, "true": True, "false": False}


class ExpressionError(ValueError):
    """Text that is no expression, or one that cannot be evaluated for a point."""


def _numbers(*values: Any) -> None:
    for value in values:
        if not isinstance(value, int | float):
            raise TypeError(f"a number is needed, not {value!r:.60}")


def _power(base: Any, exponent: Any) -> Any:
    _numbers(base, exponent)
    whole = isinstance(base, int) and isinstance(exponent, int) and exponent > 0
    if whole and base.bit_length() * exponent > _MAX_BITS:
        raise ValueError("the power is too large")
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError("a root of a negative number")
    return result


def _times(left: Any, right: Any) -> Any:
    _numbers(left, right)
    whole = isinstance(left, int) and isinstance(right, int)
    if whole and left.bit_length() + right.bit_length() > _MAX_BITS:
        raise ValueError("the product is too large")
    return left * right


def _plus(left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        if len(left) + len(right) > _MAX_TEXT:
            raise ValueError("the text is too long")
        return left + right
    _numbers(left, right)
    return left + right


def _on_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*values: Any) -> Any:
        _numbers(*values)
        return function(*values)

    return checked


def _round(value: Any, digits: int = 0) -> Any:
    _numbers(value, digits)
    return round(value, digits) if digits else round(value)


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _plus,
    ast.Sub: _on_numbers(operator.sub),
    ast.Mult: _times,
    ast.Div: _on_numbers(operator.truediv),
    ast.FloorDiv: _on_numbers(operator.floordiv),
    ast.Mod: _on_numbers(operator.mod),
    ast.Pow: _power,
    ast.USub: _on_numbers(operator.neg),
    ast.UAdd: _on_numbers(operator.pos),
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        name: _on_numbers(getattr(math, name))
        for name in (
            "floor",
            "ceil",
            "sqrt",
            "exp",
            "log",
            "log10",
            "log2",
            "sin",
            "cos",
            "tan",
            "asin",
            "acos",
            "atan",
            "atan2",
            "sinh",
            "cosh",
            "tanh",
            "hypot",
        )
    },
    "abs": _on_numbers(abs),
    "min": min,
    "max": max,
    "round": _round,
    "int": int,
    "float": float,
    "str": str,
}
_REMOVED = (
    "Attribute", "Subscript", "Slice", "Index", "JoinedStr", "FormattedValue", "Assign",
    "AugAssign", "Import", "keyword", "NamedExpr",
)  # fmt: skip


def _evaluator() -> simpleeval.SimpleEval:
    evaluator = simpleeval.SimpleEval(operators=_OPERATORS, functions=FUNCTIONS, names={})
    for name in _REMOVED:
        evaluator.nodes.pop(getattr(ast, name, None), None)
    return evaluator


class Expression:
    """Parsed once, evaluated for many points. `names`: the parameters that it needs."""

    def __init__(self, text: object, known: Iterable[str]) -> None:
        """Raises `ExpressionError` for what is no expression, and for names not in `known`."""
        if isinstance(text, bool | int | float):
            text = str(text)
        if not isinstance(text, str) or not text.strip():
            raise ExpressionError(f"{text!r:.60} is not an expression")
        self.text = text.strip()
        self._node = _parse(self.text)
        self.names = _names(self._node, self.text, set(known))
        self._evaluator = _evaluator()

    def value(self, point: Mapping[str, Any]) -> Scalar:
        """Raises `ExpressionError`, naming the expression, where it has no value at this point."""
        self._evaluator.names = {**CONSTANTS, **point}
        try:
            value = self._evaluator.eval(self.text, previously_parsed=self._node)
        except ZeroDivisionError:
            raise ExpressionError(f"{self.text!r} divides by zero") from None
        except (ArithmeticError, ValueError, TypeError, RecursionError, AttributeError) as error:
            raise ExpressionError(f"{self.text!r}: {error}") from error
        except simpleeval.InvalidExpression as error:
            raise ExpressionError(f"{self.text!r}: {error}") from error
        if isinstance(value, float) and not math.isfinite(value):
            raise ExpressionError(f"{self.text!r} gives {value}")
        if value is not None and not isinstance(value, int | float | str):
            raise ExpressionError(f"{self.text!r} gives no number or text")
        if isinstance(value, int) and value.bit_length() > 63:
            raise ExpressionError(f"{self.text!r} gives a whole number beyond 64 bits")
        return value


def _parse(text: str) -> ast.expr:
    if len(text) > _MAX_LENGTH:
        raise ExpressionError(f"{text[:40]!r}... is longer than {_MAX_LENGTH} characters")
    try:
        node = ast.parse(text, mode="eval").body
        nodes = list(ast.walk(node))
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ExpressionError(f"{text!r} is not an expression{_why(error)}") from None
    if len(nodes) > _MAX_NODES:
        raise ExpressionError(f"{text[:40]!r}... is too long an expression")
    for each in nodes:
        _check_node(each, text)
    return node


def _why(error: BaseException) -> str:
    return f": {error.msg}" if isinstance(error, SyntaxError) and error.msg else ""


_ALLOWED = (
    ast.Name, ast.Constant, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call,
    ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip


def _check_node(node: ast.AST, text: str) -> None:
    if not isinstance(node, _ALLOWED):
        raise ExpressionError(
            f"{text!r}: only arithmetic, comparisons and the documented functions are possible"
        )
    if isinstance(node, ast.operator | ast.cmpop | ast.unaryop) and type(node) not in _OPERATORS:
        raise ExpressionError(f"{text!r}: there is no such operator in expressions")
    if isinstance(node, ast.Call) and getattr(node.func, "id", None) not in FUNCTIONS:
        name = node.func.id if isinstance(node.func, ast.Name) else "that"
        raise ExpressionError(f"{text!r}: no function {name!r}{nearest(name, FUNCTIONS)}")
    if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str):
        raise ExpressionError(f"{text!r}: {node.value!r} is neither a number nor text")


def _names(node: ast.expr, text: str, known: set[str]) -> frozenset[str]:
    called = {id(each.func) for each in ast.walk(node) if isinstance(each, ast.Call)}
    names = {
        each.id for each in ast.walk(node) if isinstance(each, ast.Name) and id(each) not in called
    }
    for name in sorted(names):
        if name not in known and name not in CONSTANTS:
            raise ExpressionError(f"{text!r}: no parameter {name!r}{nearest(name, known)}")
    return frozenset(names - CONSTANTS.keys())
