"""Whether two files hold the same: byte by byte, else number by number, else where they part.

Numbers count as equal within a tolerance when |a - b| <= absolute + relative * max(|a|, |b|), as in
Python's `math.isclose` (PEP 485), but with both tolerances added, as in numpy's.
"""

from __future__ import annotations

import gzip
import math
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

_WORDS = re.compile(r"[^\s(){}\[\];,=\"']+")
_GZIP = b"\x1f\x8b"
_FOAM_BINARY = re.compile(rb"FoamFile\s*\{[^}]*\bformat\s+binary;")
_HEAD_BYTES = 4096
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Tolerance:
    """See the formula above; both 0: every digit counts."""

    relative: float = 0.0
    absolute: float = 0.0

    def allows(self, one: float, other: float) -> bool:
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        if math.isinf(one) or math.isinf(other):
            return one == other
        return abs(one - other) <= self.absolute + self.relative * max(abs(one), abs(other))


@dataclass(frozen=True, slots=True)
class Unequal:
    """Two files whose bytes are not the same.

    where: the first place, in words: the first beyond the tolerance, where there is one.
    largest: the largest relative difference, |a - b| / max(|a|, |b|), of two numbers in the same place;
    None where there is more to it than numbers. within: whether the tolerance allows all of it.
    """

    where: str
    largest: float | None
    within: bool


def compare(one: bytes, other: bytes, tolerance: Tolerance) -> Unequal | None:
    """None where they are the same, byte by byte."""
    if one == other:
        return None
    return _fields(one, other, tolerance) or _texts(one, other, tolerance) or _bytes(one, other)


# -- numbers in texts --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tally:
    """What has been found until now, number by number."""

    tolerance: Tolerance
    first: str | None = None
    beyond: str | None = None
    largest: float = 0.0

    def add(self, one: float, other: float, where: str) -> None:
        # of what is not finite there is no measure
        known = math.isfinite(one) and math.isfinite(other)
        relative = abs(one - other) / max(abs(one), abs(other)) if known else math.inf
        self.largest = max(self.largest, relative)
        self.first = self.first or where
        if not self.tolerance.allows(one, other):
            self.beyond = self.beyond or where

    def result(self) -> Unequal:
        where = self.beyond or self.first or "only spaces, or how numbers are written"
        return Unequal(where, self.largest, self.beyond is None)


def _texts(one: bytes, other: bytes, tolerance: Tolerance) -> Unequal | None:
    """None for what is no text."""
    try:
        texts = [_unpacked(content).decode() for content in (one, other)]
    except UnicodeDecodeError:
        return None
    if any("\0" in text for text in texts):
        return None
    tally = _Tally(tolerance)
    lines = zip_longest(*(text.splitlines() for text in texts))
    for number, (before, now) in enumerate(lines, 1):
        if before == now:
            continue
        if before is None or now is None:
            return Unequal(f"line {number} is only in one of them", None, False)
        if (where := _compare_lines(before, now, f"line {number}", tally)) is not None:
            return Unequal(where, None, False)
    return tally.result()


def _compare_lines(before: str, now: str, place: str, tally: _Tally) -> str | None:
    """Adds the numbers that differ; returns where the rest does."""
    for one, other in zip_longest(_WORDS.findall(before), _WORDS.findall(now)):
        if one == other:
            continue
        try:
            numbers = float(one), float(other)
        except (TypeError, ValueError):
            return f"{place}: {before.strip():.{_SHOWN}} / {now.strip():.{_SHOWN}}"
        # 1 and 1.0 are written differently, and are the same number
        if numbers[0] != numbers[1] and not all(map(math.isnan, numbers)):
            tally.add(*numbers, f"{place}: {one} / {other}")
    return None


def _unpacked(content: bytes) -> bytes:
    try:
        return gzip.decompress(content) if content.startswith(_GZIP) else content
    except (OSError, EOFError):
        return content


# -- OpenFOAM's binary fields ------------------------------------------------------------------------


def _fields(one: bytes, other: bytes, tolerance: Tolerance) -> Unequal | None:
    """Cell by cell. None for what is no pair of binary OpenFOAM fields that only differ in their cells."""
    contents = [_unpacked(content) for content in (one, other)]
    if not all(_FOAM_BINARY.search(content[:_HEAD_BYTES]) for content in contents):
        return None
    read = [_cells(content) for content in contents]
    if read[0] is None or read[1] is None or len(read[0]) != len(read[1]):
        return None
    tally = _Tally(tolerance)
    for cell, (before, now) in enumerate(zip(*read, strict=True)):
        for a, b in zip(before, now, strict=True):
            if a != b and not (math.isnan(a) and math.isnan(b)):
                tally.add(a, b, f"cell {cell}: {a!r} / {b!r}")
    # what differs elsewhere, such as on a boundary, has no cell to be named by
    return tally.result() if tally.first else None


def _cells(content: bytes) -> Sequence[Sequence[float]] | None:
    """One row for each cell. None for what is no field, or one that foamlib cannot read."""
    from foamlib import FoamFieldFile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "field")
        path.write_bytes(content)
        try:
            import numpy as np

            values = np.asarray(FoamFieldFile(path).internal_field, dtype=float)
        except Exception:  # noqa: BLE001 - foamlib raises what its parser does; the bytes are compared instead
            return None
    rows: list[list[float]] = values.reshape(len(values) if values.ndim else 1, -1).tolist()
    return rows


# -- bytes -------------------------------------------------------------------------------------------


def _bytes(one: bytes, other: bytes) -> Unequal:
    place = next(_places(one, other), min(len(one), len(other)))
    sizes = "" if len(one) == len(other) else f" ({len(one)} and {len(other)} bytes long)"
    return Unequal(f"byte {place}{sizes}", None, False)


def _places(one: bytes, other: bytes) -> Iterator[int]:
    return (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
