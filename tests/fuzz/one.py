"""Fuzz one target: `python -m tests.fuzz.one TARGET [libFuzzer's options and folders]`."""

from __future__ import annotations

import logging
import random
import sys
from typing import Any

import atheris
import msgpack

with atheris.instrument_imports(include=["queue_runner", "pika"]):
    from tests.fuzz import targets
    from tests.fuzz.seeds import unpacked

#: What may stand where another value belongs.
_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63, 2**64 - 1, float("nan"), float("inf"), 1e308, "", "..", "../x",
    "/etc/passwd", "a\nb", "\x1b[2J", "\0", "x" * 5000, b"\xff", [], {}, [[]] * 50, {"x": {"x": {}}},
    msgpack.ExtType(5, b"x"), msgpack.Timestamp(2**33),
)  # fmt: skip


def mutated(data: bytes, most: int, seed: int) -> bytes:
    """Half of the time one value of what is msgpack is another: bytes alone seldom stay msgpack."""
    dice = random.Random(seed)
    head, body = (data[:2], data[2:]) if sys.argv[1].startswith("zeromq") else (b"", data)
    if dice.random() < 0.5:
        try:
            return head + _changed(unpacked(body), dice)[: most - len(head)]
        except (ValueError, TypeError, msgpack.UnpackException, OverflowError, RecursionError):
            # it is none: its bytes are changed
            pass
    changed: bytes = atheris.Mutate(data, most)
    return changed


def _changed(value: Any, dice: random.Random) -> bytes:
    places = list(_places(value))
    if places:
        inside, key = dice.choice(places)
        inside[key] = _other(inside[key], dice)
    else:
        value = dice.choice(_ODD)
    packed: bytes = msgpack.packb(value)
    return packed


def _places(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key, inner in (
            list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        ):
            yield value, key
            yield from _places(inner)


def _other(value: Any, dice: random.Random) -> Any:
    if dice.random() < 0.5:
        return dice.choice(_ODD)
    if isinstance(value, str):
        return atheris.Mutate(value.encode(), 200).decode("utf-8", "replace")
    if isinstance(value, bytes):
        # messages in a batch
        return mutated(value, len(value) + 100, dice.getrandbits(32))
    if isinstance(value, list):
        return value * dice.randint(0, 3)
    return value


def main() -> None:
    name = sys.argv[1]
    # what a stranger's bytes have the program log, they would have it log a million times
    logging.disable(logging.CRITICAL)
    with targets.made(name) as target:
        atheris.Setup([sys.argv[0], *sys.argv[2:]], target, custom_mutator=mutated)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
