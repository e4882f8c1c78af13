"""Sizes and times as people write them: `2 GiB`, `500 MB`, `10 min`."""

from __future__ import annotations

import math
import re

_BYTES = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
    "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40,
}  # fmt: skip
_CLOCK = re.compile(r"(\d{1,4}):([0-5]\d):([0-5]\d)")
#: A number with its unit: without one, `1 2` would be a time.
_PARTS = re.compile(r"[0-9.]+\s*[a-z]+", re.IGNORECASE)
_SECONDS = {
    "": 1.0, "ms": 1e-3, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0,
    "min": 60.0, "minute": 60.0, "minutes": 60.0, "m": 60.0,
    "h": 3600.0, "hour": 3600.0, "hours": 3600.0, "d": 86400.0, "day": 86400.0, "days": 86400.0,
}  # fmt: skip


def parse_bytes(value: object) -> int:
    """Bytes. Takes a number, or text with one of the units B, kB, MB, GB, KiB, MiB, GiB, TiB."""
    number = _number(value, _BYTES, "a size such as 2 GiB or 500 MB")
    return max(1, int(number))


def parse_seconds(value: object) -> float:
    """Seconds. Takes a number, text with units (ms, s, min, h, d: `90 s`, `1 h 30 min`), or `h:mm:ss`."""
    expected = "a time such as 30 s, 10 min, 1 h 30 min or 1:30:00"
    if not isinstance(value, str):
        return _number(value, _SECONDS, expected)
    if clock := _CLOCK.fullmatch(value.strip()):
        hours, minutes, rest = map(int, clock.groups())
        return _number(3600 * hours + 60 * minutes + rest, _SECONDS, expected)
    parts = _PARTS.findall(value) if _PARTS.sub("", value).strip() == "" else []
    if len(parts) < 2:
        return _number(value, _SECONDS, expected)
    return sum(_number(part, _SECONDS, expected) for part in parts)


def _number(value: object, units: dict[str, float] | dict[str, int], expected: str) -> float:
    text = str(value).strip() if isinstance(value, int | float | str) else ""
    found = re.fullmatch(r"([0-9.]+(?:e[+-]?\d+)?)\s*([a-z]*)", text, re.IGNORECASE)
    unit = found.group(2).lower() if found else ""
    if found is None or isinstance(value, bool) or unit not in units:
        raise ValueError(f"{value!r:.80} is not {expected}")
    try:
        number = float(found.group(1)) * units[unit]
    except ValueError:
        raise ValueError(f"{value!r:.80} is not {expected}") from None
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{value!r:.80} is not {expected}: it has to be positive")
    return number
