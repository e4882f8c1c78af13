"""A job's patterns on its logs, in a process of their own, for a pattern may take for ever.

Python's `re` goes back over its steps: each further letter may double the time of `(a|aa)+$`, and nothing in
a process can stop it. In another one the kernel does.
"""

from __future__ import annotations

import atexit
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queue_runner.workers import matching

#: Seconds of processor time for all patterns of a job, and one more for so many bytes of logs and a pattern.
_LEAST_S = 20
_BYTES_PER_S = 2 * 1024 * 1024
#: Idle processes that are kept.
_KEPT = 8


@dataclass(frozen=True, slots=True)
class Search:
    """take: as in a study file."""

    pattern: str
    take: str
    files: Sequence[Path]


class Unmatched(Exception):
    """A search that has no answer; the text says why. `place`: which one."""

    def __init__(self, place: int, text: str) -> None:
        super().__init__(text)
        self.place = place


def found_by(searches: Sequence[Search]) -> list[str | float | None]:
    """What each search takes; None where nothing matches. Raises `Unmatched`."""
    if not searches:
        return []
    limit_s = _limit_s(searches)
    asked = {
        "limit_s": limit_s,
        "searches": [[each.pattern, each.take, [*map(str, each.files)]] for each in searches],
    }
    answers, ended = _POOL.ask(json.dumps(asked), len(searches))
    for place, answer in enumerate(answers):
        if "error" in answer:
            raise Unmatched(place, str(answer["error"]))
    if len(answers) < len(searches):
        took = f"takes more than {limit_s} s of processor time on what the job has printed"
        raise Unmatched(len(answers), took if ended < 0 else "cannot be looked for")
    return [answer["found"] for answer in answers]


class _Matcher:
    """One process, which goes when its standard input is closed, or the worker ends."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", matching.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: str, searches: int) -> list[dict[str, Any]]:
        """Answers; fewer where one is an error, or the process ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # an end of the process is seen where its answer is missing
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{request}\n")
            self._process.stdin.flush()
        answers: list[dict[str, Any]] = []
        while len(answers) < searches and not (answers and "error" in answers[-1]):
            line = self._process.stdout.readline()
            if not line.endswith("\n"):
                break
            answers.append(json.loads(line))
        return answers

    def end(self) -> int:
        """Its exit code, negative for a signal."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        return self._process.wait()


class _Pool:
    """Processes that wait for the next job's patterns: to start one takes longer than most searches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Matcher] = []
        atexit.register(self.close)

    def ask(self, request: str, searches: int) -> tuple[list[dict[str, Any]], int]:
        """Answers, and the exit code of the process where it ended with one of the searches, else 0."""
        with self._lock:
            matcher = self._idle.pop() if self._idle else None
        if matcher is not None:
            answers = matcher.ask(request, searches)
            if answers:
                return answers, self._over(matcher, answers, searches)
            if (ended := matcher.end()) == -signal.SIGPROF:
                return answers, ended
            # it had ended before, for reasons of its own
        matcher = _Matcher()
        answers = matcher.ask(request, searches)
        return answers, self._over(matcher, answers, searches)

    def _over(self, matcher: _Matcher, answers: Sequence[dict[str, Any]], searches: int) -> int:
        if len(answers) < searches or "error" in answers[-1]:
            # where memory was short, it may be for the next job as well
            return matcher.end()
        with self._lock:
            if len(self._idle) < _KEPT:
                self._idle.append(matcher)
                return 0
        matcher.end()
        return 0

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for matcher in idle:
            matcher.end()


_POOL = _Pool()


def _limit_s(searches: Sequence[Search]) -> int:
    size = sum(file.stat().st_size for each in searches for file in each.files if file.is_file())
    return _LEAST_S + size // _BYTES_PER_S
