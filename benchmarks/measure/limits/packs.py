"""Small maps into msgpack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgpack

from measure.limits.base import Limit

_BURST = 10_000
_MAP = {"job": "noop-1f0c9a7e21.0000003", "index": 3, "point": {"x": 3}, "metrics": {"y": 3}}


class PacksLimit(Limit):
    packages: ClassVar[Sequence[str]] = ("msgpack",)

    def burst(self) -> int:
        pack = msgpack.Packer().pack
        for _ in range(_BURST):
            pack(_MAP)
        return _BURST
