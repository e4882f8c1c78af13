"""What the solvers of OpenFOAM print: residuals, times, and why they stopped."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from queue_runner.errors import JobError
from queue_runner.model import Reason, Scalar
from queue_runner.workers.kinds.base import Diagnosis
from queue_runner.workers.leavings import open_file, texts_of

_GROUPS = ("residuals", "time", "execution_time")
_TAIL_BYTES = 16 * 1024
#: Of what OpenFOAM says of an error; a list of all patches can be long.
_MAX_LINES = 8
_RANK = re.compile(r"^\[\d+\]\s*")
_RESIDUAL = re.compile(r"Solving for (\S+), Initial residual = (\S+), Final residual = ([^\s,]+)")
TIME = re.compile(r"^Time = (\S+?)s?\s*$")
#: In a part of a log with a newline before it: patterns that begin with the same letters are found fastest.
_TIMES = re.compile(r"\nTime = (\S+?)s?[^\S\n]*$", re.MULTILINE)
#: The head of each program (a log that was gone on with has several), and its times; some solvers write
#: 00:01:02 for 62 s.
_CLOCKS = re.compile(
    r"\nExec(?:ution(?P<told>Time) = (\S+)(?: s)?(?:[^\S\n]+ClockTime = (\S+)(?: s)?)?[^\S\n]*$|\s+:)",
    re.MULTILINE,
)
_FATAL = re.compile(r"FOAM FATAL (?:IO )?ERROR")
_UNDEFINED = re.compile(
    r"(?:[Kk]eyword|Entry) '?(\S+?)'? (?:is undefined|not found) in dictionary \"?([^\"\s]+)\"?"
)
# the head of every log says that trapping such exceptions is enabled
_FPE = re.compile(r"sigFpe::sigHandler|Floating point exception(?! trapping)")


def read_log(path: Path, asked: Mapping[str, Any]) -> dict[str, Scalar]:
    """The metrics of a solver's log that are asked for, which it must have where they are not `optional`.

    Seconds are those of all attempts that the log is of, each up to where the next one went on.

    Raises `JobError` with reason `metrics`.
    """
    optional = asked.get("optional") or ()
    if not path.is_file() and all(name in optional for name in _GROUPS if asked.get(name)):
        return {}
    residuals: dict[str, Scalar] = {}
    time: dict[str, Scalar] = {}
    clock = _Clock()
    try:
        with texts_of(path) as texts:
            for text in texts:
                for found in _RESIDUAL.finditer(text):
                    residuals[f"residual_{found[1]}"] = float(found[3])
                lines = f"\n{text}"
                for found in _TIMES.finditer(lines):
                    time["last_time"] = float(found[1])
                for found in _CLOCKS.finditer(lines):
                    clock.take(found)
    except (OSError, ValueError) as error:
        raise JobError(Reason.METRICS, f"{path.name}: cannot be read: {error}") from error
    metrics: dict[str, Scalar] = {}
    for name, values in zip(
        _GROUPS, (residuals, time, dict[str, Scalar](clock.total())), strict=True
    ):
        if asked.get(name):
            if not values and name not in optional:
                raise JobError(Reason.METRICS, f"{path.name} shows no {name.replace('_', ' ')}")
            metrics.update(values)
    return metrics


class _Clock:
    """Each program counts from 0."""

    def __init__(self) -> None:
        self._before: dict[str, float] = {}
        self._now: dict[str, float] = {}

    def take(self, found: re.Match[str]) -> None:
        if found["told"] is None:
            self._before, self._now = self.total(), {}
            return
        self._now["execution_time"] = _seconds(found[2])
        if found[3]:
            self._now["clock_time"] = _seconds(found[3])

    def total(self) -> dict[str, float]:
        names = {**self._before, **self._now}
        return {name: self._before.get(name, 0.0) + self._now.get(name, 0.0) for name in names}


def _seconds(text: str) -> float:
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + float(part)
    return total


def took_a_step(path: Path) -> bool:
    """Whether a solver went through any time at all."""
    if not path.is_file():
        return False
    with texts_of(path) as texts:
        return any(_TIMES.search(f"\n{text}") for text in texts)


def tail(path: Path) -> str:
    """The last part of a log, where a program says why it stopped."""
    with open_file(path) as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL_BYTES))
        return log.read(_TAIL_BYTES).decode("utf-8", "replace")


def diagnose(step: str, tail: str, folder: Path) -> Diagnosis | None:
    """Why a program of OpenFOAM failed, as its log says it."""
    if _FPE.search(tail):
        text = (
            f"{step} stopped with a floating point exception: a value grew beyond all bounds. A smaller"
            " deltaT, or other parameters, may prevent that"
        )
        return Diagnosis(Reason.DIVERGED, text)
    fatal = _FATAL.search(tail)
    if fatal is None:
        return None
    said = tail[fatal.end() :]
    if undefined := _UNDEFINED.search(said):
        file = undefined[2].removeprefix(f"{folder}/")
        return Diagnosis(
            Reason.PREPARE, f"{step} stopped: keyword {undefined[1]} is undefined in {file}"
        )
    text = _text(said).replace(f"{folder}/", "")
    if "dummy" in text.lower() and "scotch" in tail.lower():
        text += " This OpenFOAM has only a stub of scotch: use decompose method simple"
    if 'Cannot find file "points"' in text:
        text += "; the case has no mesh: name the program that makes it in `steps`"
    return Diagnosis(Reason.EXIT_CODE, f"{step} stopped: {text}")


def _text(said: str) -> str:
    """What follows the headline of an error, up to where it names OpenFOAM's own source."""
    lines = []
    for line in said.splitlines()[1:]:
        bare = _RANK.sub("", line.strip())
        if bare.startswith(("From function", "From ", "FOAM exiting", "FOAM aborting")):
            break
        if bare:
            lines.append(bare)
    text = " ".join(lines[:_MAX_LINES])
    # of a dictionary that is not there, it prints no more than the name
    return f"there is no {text}" if re.fullmatch(r'"[^"]+"', text) else text


def not_a_number(step: str, tail: str) -> Diagnosis | None:
    """A solver may end with exit code 0 although its numbers are gone."""
    last = {found[1]: (found[2], found[3]) for found in _RESIDUAL.finditer(tail)}
    for name, texts in last.items():
        if any(_lost(text.rstrip(",")) for text in texts):
            return Diagnosis(
                Reason.DIVERGED, f"{step} ended, but the last residual of {name} is not a number"
            )
    return None


def _lost(text: str) -> bool:
    try:
        return not math.isfinite(float(text))
    except ValueError:
        return True
