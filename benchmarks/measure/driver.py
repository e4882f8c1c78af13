"""The process of one contender: does what it is told, one line of JSON a call.

    python -m measure.driver MODULE:CLASS ANSWERS    # calls on stdin, answers to this file descriptor

Answers have a channel of their own, for the libraries that are measured print what they like.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from measure.contender import Contender, Effort, Place


def load(where: str, place: Place) -> Contender:
    module, _, name = where.partition(":")
    made: Contender = getattr(importlib.import_module(module), name)(place)
    return made


def answer(contender: Contender, call: dict[str, Any]) -> object:
    match call:
        case {"call": "start"}:
            contender.start()
            return contender.versions()
        case {"call": "measure", "workload": workload, "effort": effort}:
            return contender.measure(workload, Effort(**effort))
        case {"call": "stop"}:
            contender.stop()
            return None
        case _:
            raise ValueError(f"no such call: {call}")


def main() -> None:
    where, descriptor = sys.argv[1], int(sys.argv[2])
    # its children must not hold the harness's end open
    os.set_inheritable(descriptor, False)
    place = json.loads(sys.stdin.readline())
    with os.fdopen(descriptor, "w", buffering=1) as answers:
        contender: Contender | None = None
        for line in sys.stdin:
            try:
                if contender is None:
                    contender = load(where, Place(Path(place.pop("folder")), **place))
                said = {"answer": answer(contender, json.loads(line))}
            except Exception as error:  # noqa: BLE001 - told to the harness, which reports it
                traceback.print_exc()
                said = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(said), file=answers)


if __name__ == "__main__":
    main()
