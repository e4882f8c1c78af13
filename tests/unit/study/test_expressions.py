"""Expressions and braces: what they give, and that hostile ones end quickly."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_runner.study.braces import Template
from queue_runner.study.expressions import Expression, ExpressionError

POINT = {"x": 3, "y": 0.5, "s": "ab", "b": True}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x + 1", 4),
        ("x ** 2 / y", 18.0),
        ("x // 2 + x % 2", 2),
        ("-x if b else +x", -3),
        ("s == 'ab' and not x > 3", True),
        ("max(x, 7) + min(x, y) + abs(-1)", 8.5),
        ("round(pi, 2)", 3.14),
        ("round(y * 3)", 2),
        ("floor(log10(1000)) + ceil(y)", 4),
        ("int('4') + float('0.5')", 4.5),
        ("s + str(x)", "ab3"),
        ("hypot(3, 4) + atan2(0, 1)", 5.0),
        ("1 < x < 4", True),
    ],
)
def test_values(text: str, value: object) -> None:
    found = Expression(text, POINT).value({**POINT})
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "9**9**9**9", "x**100000000", "'a' * 1000000000", "'%1000000000d' % x", "(" * 500 + "x" + ")" * 500,
        "-" * 900 + "x", "__import__('os').system('x')", "x.__class__", "s[0]", "[i for i in s]",
        "(lambda: 1)()", "f'{x:1000000000}'", "x := 3", "open('/etc/passwd')", "eval('1')", "", "x; y",
        "x y", "1e400", "x / 0", "sqrt(-1)", "log(0)", "(-1) ** 0.5", "int('z')", "x << 3", "x & 1",
        "None", "...", "1j", "b'x'", "min()", "int(1e300)", "{'a': 1}", "max(s, x)", "str", "abs(*s)",
        "abs(x=1)", "'a' - 'b'", "x if x",
    ],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        Expression(text, POINT).value(POINT)


def test_unknown_names_are_told_with_the_nearest() -> None:
    with pytest.raises(ExpressionError, match="no parameter 'spede'; did you mean 'speed'"):
        Expression("2 * spede", ["speed", "nu"])
    with pytest.raises(ExpressionError, match="no function 'sqr'; did you mean 'sqrt'"):
        Expression("sqr(2)", [])


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_an_expression_error(text: str) -> None:
    with suppress(ExpressionError):
        Expression(text, POINT).value(POINT)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{x}", 3),
        ("{y}", 0.5),
        ("{b}", True),
        ("{ x * 2 }", 6),
        ("n = {x}", "n = 3"),
        ("{x}{y}", "30.5"),
        ("{x:04d}", "0003"),
        ("U {y:.3f};", "U 0.500;"),
        ("{{{x}}}", "{3}"),
        ("{{x}}", "{x}"),
        ("{'a:b' if x != 3 else '}'}", "}"),
        ("flag={b}", "flag=true"),
        ("plain", "plain"),
        (["{x}", {"k": "{y}"}, 5], [3, {"k": 0.5}, 5]),
    ],
)
def test_braces(text: object, value: object) -> None:
    filled = Template(text, POINT).fill(POINT)
    assert filled == value
    assert type(filled) is type(value)


@pytest.mark.parametrize("text", ["{x", "x}", "{}", "{x:999999d}", "{x!r}", "{nope}", "{x:.3f!}"])
def test_wrong_braces(text: str) -> None:
    with pytest.raises(ExpressionError):
        Template(text, POINT).fill(POINT)


def test_parts_without_braces_are_shared_not_built_again() -> None:
    template = Template({"fixed": {"a": [1, 2]}, "moving": "{x}"}, POINT)
    assert template.fill({"x": 1})["fixed"] is template.fill({"x": 2})["fixed"]
