"""The job of the benchmark: nothing but its own bookkeeping."""

from __future__ import annotations


def noop(x: int) -> dict[str, int]:
    return {"y": x}
