"""The way of a lone job in legs, from the points that it came past."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median

from measure.marks import Mark


@dataclass(frozen=True, slots=True)
class Leg:
    """From `begin` to `end`, names of marks. `what` happens meanwhile."""

    begin: str
    end: str
    what: str


#: One after the other: where one ends, the next one begins.
WAY = (
    Leg("submit", "ask", "client: the study; its files hashed and stored"),
    Leg("ask", "told known", "client, collector: is the study known?"),
    Leg("told known", "post", "client: the job made and encoded"),
    Leg("post", "leased", "broker: to the worker"),
    Leg("leased", "called", "worker: until the function is called"),
    Leg("called", "settle", "worker: from the function to its result, encoded"),
    Leg("settle", "collected", "broker: to the collector, decoded"),
    Leg("collected", "committed", "collector: the transaction"),
    Leg("committed", "answer", "collector: until who waits is answered"),
    Leg("answer", "received", "HTTP: the answer, to the client"),
    Leg("received", "known", "client: the result decoded"),
)
#: Of a point of a study that is open: the study is known long since.
OPEN_WAY = (Leg("submit", "post", "client: the job made and encoded"), *WAY[3:])
#: Nobody waits for these, but they take their share of the cores.
BESIDE = (
    Leg("post", "confirmed", "client: publishing confirmed"),
    Leg("confirmed", "noted", "client: the note that all are sent, confirmed"),
    Leg("noted", "awaiting", "client: until it asks for results"),
    Leg("settle", "settled", "worker: the result confirmed, the job acknowledged"),
    Leg("committed", "acknowledged", "collector: flushed and acknowledged"),
)
OPEN_BESIDE = tuple(leg for leg in BESIDE if "noted" not in (leg.begin, leg.end))


def jobs(marks: Iterable[Mark], first: str) -> Iterator[list[Mark]]:
    """The marks of each job, which begins with the mark `first`; those before the first job are left out."""
    job: list[Mark] | None = None
    for mark in sorted(marks, key=lambda mark: mark[1]):
        if mark[0] == first:
            if job is not None:
                yield job
            job = []
        if job is not None:
            job.append(mark)
    if job is not None:
        yield job


def points(job: Sequence[Mark], way: Sequence[Leg] = WAY) -> dict[str, float] | None:
    """When a job came past each point of the way: by the first such mark after that of the point before.

    None where one is missing.
    """
    found: dict[str, float] = {}
    at = float("-inf")
    for name in (way[0].begin, *(leg.end for leg in way)):
        passed = next((when for mark, when in job if mark == name and when >= at), None)
        if passed is None:
            return None
        found[name] = at = passed
    return found


def is_over(
    marks: Iterable[Mark], way: Sequence[Leg] = WAY, beside: Sequence[Leg] = BESIDE
) -> bool:
    """Whether all that is beside the way of the last job has ended, too."""
    last = list(jobs(marks, way[0].begin))[-1:]
    return all(
        (begin := _first(job, leg.begin)) is not None and _first(job, leg.end, begin) is not None
        for job in last
        for leg in beside
    )


def medians_ms(
    marks: Iterable[Mark], way: Sequence[Leg] = WAY, beside: Sequence[Leg] = BESIDE
) -> dict[str, float]:
    """By what happens, and `all` of the way, over all jobs that came past all of its points.

    What is beside the way may end when the next jobs are on theirs.

    Raises `ValueError` where none did.
    """
    times: dict[str, list[float]] = {leg.what: [] for leg in (*way, *beside)}
    times["all"] = []
    each_job = list(jobs(marks, way[0].begin))
    for number, job in enumerate(each_job):
        found = points(job, way)
        if found is None:
            continue
        times["all"].append(found[way[-1].end] - found[way[0].begin])
        for leg in way:
            times[leg.what].append(found[leg.end] - found[leg.begin])
        for leg in beside:
            begin = found[leg.begin] if leg.begin in found else _first(job, leg.begin)
            onwards = chain.from_iterable(each_job[number:])
            end = None if begin is None else _first(onwards, leg.end, begin)
            if begin is not None and end is not None:
                times[leg.what].append(end - begin)
    if not times["all"]:
        raise ValueError(f"no job came past all points, from {way[0].begin!r} to {way[-1].end!r}")
    return {what: 1000 * median(each) for what, each in times.items() if each}


def _first(job: Iterable[Mark], name: str, since: float = float("-inf")) -> float | None:
    return next((when for mark, when in job if mark == name and when >= since), None)
