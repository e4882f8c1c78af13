"""The process that patterns are tried in, one job's after another; see `patterns.py`, which starts it.

Each line of standard input is the request of a job, each line of the output the answer to a search. The first
error is the last answer to a request.
"""

from __future__ import annotations

import json
import math
import re
import resource
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

if __name__ == "__main__":
    # started without site-packages, of which it needs none: to look there takes most of the time
    sys.path.insert(0, str(Path(__file__).parents[2]))

from queue_runner.workers.leavings import lines_of

_MEMORY_BYTES = 1024**3
#: Of a value; nobody wants a log as a metric.
_MOST_TEXT = 10_000


def main() -> None:
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, _MEMORY_BYTES)
    for line in sys.stdin:
        asked = json.loads(line)
        # nobody handles the signal, so the kernel ends the process in the midst of a search
        signal.setitimer(signal.ITIMER_PROF, asked["limit_s"])
        for pattern, take, files in asked["searches"]:
            answer = _answer(pattern, take, files)
            print(json.dumps(answer), flush=True)
            if "error" in answer:
                break
        signal.setitimer(signal.ITIMER_PROF, 0)


def _limit(kind: int, most: int) -> None:
    """Or less, where the worker itself may have less."""
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def _answer(pattern: str, take: str, files: Sequence[str]) -> Mapping[str, object]:
    try:
        return {"found": _take(_matches(re.compile(pattern), files), take)}
    except (re.error, RecursionError, OverflowError) as error:
        return {"error": f"is no regular expression: {error}"}
    except MemoryError:
        return {"error": f"takes more than {_MEMORY_BYTES // 1024**2} MiB of memory"}
    except OSError as error:
        return {"error": f"cannot be looked for: {error}"}
    except ValueError as error:
        return {"error": str(error)}


def _matches(pattern: re.Pattern[str], files: Iterable[str]) -> Iterator[str]:
    for path in files:
        if not Path(path).is_file():
            continue
        with lines_of(Path(path)) as lines:
            for line in lines:
                found = pattern.search(line.rstrip("\n"))
                if found:
                    yield (found.group(1) or "") if pattern.groups else found.group()


def _take(found: Iterator[str], take: str) -> str | float | None:
    if take == "count":
        return sum(1 for _ in found) or None
    if take == "first":
        return _short(next(found, None))
    last, count, total, low, high = None, 0, 0.0, math.inf, -math.inf
    for last in found:
        count += 1
        if take != "last":
            value = _number(last)
            total, low, high = total + value, min(low, value), max(high, value)
    if last is None:
        return None
    values = {"sum": total, "mean": total / count if count else 0.0, "min": low, "max": high}
    return values[take] if take in values else _short(last)


def _short(text: str | None) -> str | None:
    return None if text is None else text[:_MOST_TEXT]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"takes {text!r:.60}, which is no number") from None


if __name__ == "__main__":
    main()
