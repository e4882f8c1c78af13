"""Two files: the same bytes, the same numbers within a tolerance, or where they part."""

from __future__ import annotations

import gzip
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_runner.client.comparing import Tolerance, Unequal, compare

EXACT = Tolerance()
ROUGH = Tolerance(relative=1e-3)


@given(st.binary())
def test_the_same_bytes_are_the_same(content: bytes) -> None:
    assert compare(content, content, EXACT) is None


@given(st.binary(), st.binary())
def test_other_bytes_are_not(one: bytes, other: bytes) -> None:
    found = compare(one, other, EXACT)
    assert (found is None) == (one == other)


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(finite, finite)
def test_the_relative_difference_is_that_of_the_numbers(one: float, other: float) -> None:
    found = compare(f"x {one!r} y\n".encode(), f"x {other!r} y\n".encode(), EXACT)
    if repr(one) == repr(other):
        assert found is None
        return
    assert found is not None
    assert found.within == (one == other)
    scale = max(abs(one), abs(other))
    assert found.largest == (abs(one - other) / scale if scale else 0.0)


FIELD = """\
FoamFile { version 2.0; format ascii; class volScalarField; object p; }
internalField nonuniform List<scalar>
3
(
1.5
-2
3e-05
)
;
boundaryField { movingWall { type zeroGradient; } }
"""


@pytest.mark.parametrize(
    ("before", "now", "where", "largest", "within"),
    [
        ("1.5\n", "1.5001\n", "line 5: 1.5 / 1.5001", 1e-4 / 1.5001, True),
        ("1.5\n", "1.6\n", "line 5: 1.5 / 1.6", 0.1 / 1.6, False),
        ("-2\n", "-2.0\n", "only spaces, or how numbers are written", 0.0, True),
        ("-2\n", "nan\n", "line 6: -2 / nan", float("inf"), False),
        ("zeroGradient", "fixedValue", None, None, False),
        (";\nboundaryField", ";\n\nboundaryField", None, None, False),
        ("3e-05\n)", "3e-05 4\n)", None, None, False),
    ],
)
def test_the_first_difference_is_named(
    before: str, now: str, where: str | None, largest: float | None, within: bool
) -> None:
    assert before in FIELD
    found = compare(FIELD.encode(), FIELD.replace(before, now).encode(), ROUGH)
    assert found is not None
    assert found.within is within
    assert found.largest == (None if largest is None else pytest.approx(largest))
    if where is not None:
        assert found.where == where
    else:
        assert found.where.startswith("line ")


def test_the_first_beyond_the_tolerance_is_named_before_one_within() -> None:
    found = compare(b"1.0\n2.0\n3.0\n", b"1.0001\n2.5\n4.0\n", ROUGH)
    assert found == Unequal("line 2: 2.0 / 2.5", 0.25, within=False)


def test_an_absolute_tolerance_lets_noise_around_zero_pass() -> None:
    noise = b"1e-17 1\n", b"-2e-17 1\n"
    assert compare(*noise, ROUGH) == Unequal("line 1: 1e-17 / -2e-17", 1.5, within=False)
    assert compare(*noise, Tolerance(1e-3, 1e-12)) == Unequal(
        "line 1: 1e-17 / -2e-17", 1.5, within=True
    )


def test_a_missing_line_is_named() -> None:
    assert compare(b"1\n2\n", b"1\n", ROUGH) == Unequal(
        "line 2 is only in one of them", None, False
    )


def test_packed_files_are_compared_by_what_is_in_them() -> None:
    one = gzip.compress(FIELD.encode(), mtime=1)
    same = gzip.compress(FIELD.encode(), mtime=2)
    found = compare(one, same, EXACT)
    assert found is not None
    assert found.within
    other = gzip.compress(FIELD.replace("1.5", "1.75").encode())
    assert compare(one, other, EXACT) == Unequal("line 5: 1.5 / 1.75", 0.25 / 1.75, False)
    assert compare(one, b"\x1f\x8bcut", EXACT) is not None


def binary_field(*values: float, kind: str = "scalar") -> bytes:
    head = b"FoamFile\n{\n    version 2.0;\n    format binary;\n    class vol%sField;\n    object p;\n}\n"
    shape = 3 if kind == "vector" else 1
    return b"".join(
        [
            head % kind.capitalize().encode(),
            b"dimensions [0 2 -2 0 0 0 0];\n",
            f"internalField nonuniform List<{kind}>\n{len(values) // shape}\n(".encode(),
            struct.pack(f"<{len(values)}d", *values),
            b");\nboundaryField { walls { type zeroGradient; } }\n",
        ]
    )


@pytest.mark.parametrize("kind", ["scalar", "vector"])
def test_cells_of_binary_fields_are_compared(kind: str) -> None:
    numbers = [1.0, -2.5, 1e300, 0.25, 7.0, 8.0]
    changed = [*numbers[:4], 7.5, 8.0]
    cell = 4 if kind == "scalar" else 1
    one, other = (binary_field(*each, kind=kind) for each in (numbers, changed))
    assert compare(one, other, EXACT) == Unequal(f"cell {cell}: 7.0 / 7.5", 0.5 / 7.5, False)
    found = compare(one, other, Tolerance(relative=0.1))
    assert found is not None
    assert found.within


def test_what_is_no_text_is_told_by_its_first_byte() -> None:
    assert compare(b"\0\1\2", b"\0\1\3", ROUGH) == Unequal("byte 2", None, False)
    assert compare(b"\0\1", b"\0\1\3", ROUGH) == Unequal("byte 2 (2 and 3 bytes long)", None, False)
    moved = binary_field(1.0, 2.0).replace(b"walls", b"WALLS")
    found = compare(binary_field(1.0, 2.0), moved, ROUGH)
    assert found is not None
    assert not found.within
