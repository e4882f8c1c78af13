"""What several runs of the same jobs have in common, and where they part."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from queue_runner.client.client import StudyHandle
from queue_runner.client.comparing import Tolerance, compare
from queue_runner.client.rerun import is_time, unequal
from queue_runner.errors import FixThis
from queue_runner.model import Artifact, Result, Scalar, State
from queue_runner.store import Store

#: Facts of two runs that may be the cause where their results differ; the rest differs anyway.
_CAUSES = ("image", "openfoam", "mpi", "ranks", "decomposition", "bundle", "cpu", "kernel", "host",
           "runtime", "queue-runner")  # fmt: skip
#: Files whose content says when and where they were written.
_LOGS = ("log.*",)

EXACT = Tolerance()


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """runs: how often everything is run. folder: where this verification is kept.

    files: globs of the files to compare; none: all that the jobs' kind writes. ignored: globs of names, of
    files and metrics that are not compared. runtimes: where runs take place, in turn, when they are here.
    """

    folder: Path
    runs: int = 3
    files: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    tolerance: Tolerance = EXACT
    runtimes: tuple[str, ...] = ("process",)
    cores: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not the same in run number `run` as in the first one. where: "1 / 2", or "line 7: 1 / 2".

    largest: the largest relative difference of its numbers; None where there is more to it than numbers.
    """

    index: int
    run: int
    name: str
    where: str
    largest: float | None
    within: bool


@dataclass(frozen=True, slots=True)
class PointReport:
    """A point in all runs. files: how many there are of which `same` are the same in all runs, byte by
    byte; `within`: of the others, those whose differences are within the tolerance.

    Of each run: `values` of every metric (None where it has none), `seconds` from start to end, and
    `fingerprints`: SHA-256 over the names and contents of its files.
    """

    index: int
    point: Mapping[str, object]
    succeeded: int
    files: int
    same: int
    within: int
    metrics: int
    values: Mapping[str, tuple[Scalar, ...]]
    seconds: tuple[float, ...]
    fingerprints: tuple[str, ...]
    differences: tuple[Difference, ...]
    causes: tuple[str, ...]

    @property
    def largest(self) -> float | None:
        """The largest relative difference; 0 where there is none, None where one is not of numbers."""
        found = [each.largest for each in self.differences]
        return None if None in found else max((each for each in found if each), default=0.0)


@dataclass(frozen=True, slots=True)
class Report:
    """runs: where each took place. `same`: to the last bit; `agree`: within the tolerance, all succeeded."""

    study: str
    runs: tuple[str, ...]
    points: tuple[PointReport, ...]

    @property
    def same(self) -> bool:
        return self._complete and not any(point.differences for point in self.points)

    @property
    def agree(self) -> bool:
        all_of_them = (each for point in self.points for each in point.differences)
        return self._complete and all(each.within for each in all_of_them)

    @property
    def _complete(self) -> bool:
        return all(point.succeeded == len(self.runs) for point in self.points)

    @property
    def compared(self) -> int:
        return sum(point.files + point.metrics for point in self.points)

    def record(self) -> dict[str, Any]:
        points = [{**asdict(point), "largest": point.largest} for point in self.points]
        verdict = {"same": self.same, "agree": self.agree, "compared": self.compared}
        return {"study": self.study, "runs": list(self.runs), **verdict, "points": points}


def judge(
    name: str,
    settings: VerifySettings,
    handles: Sequence[StudyHandle],
    places: Sequence[str],
) -> Report:
    """Compare all runs with the first. Raises `FixThis` where there is nothing to compare."""
    store = handles[0].client.store
    # results come in the order of the points
    together = zip(*(handle.results() for handle in handles), strict=True)
    points = tuple(_compare_point(store, results, settings) for results in together)
    report = Report(name, tuple(places), points)
    if not report.compared and any(point.succeeded for point in points):
        raise FixThis(
            f"study {name}: there is nothing to compare: its jobs measured nothing, and wrote no"
            " file but logs. Name files with --compare"
        )
    return report


def _compare_point(
    store: Store, results: Sequence[Result], settings: VerifySettings
) -> PointReport:
    first = results[0]
    differences: list[Difference] = []
    for number, result in enumerate(results[1:], 2):
        differences += _states(first, result, number)
        differences += _metrics(first, result, number, settings)
        differences += _files(store, first, result, number, settings)
    names = {name for result in results for name in _compared(result, settings)}
    unlike = {each.name for each in differences} & names
    beyond = {each.name for each in differences if not each.within} & names
    metrics = {name for result in results for name in result.metrics}
    return PointReport(
        index=first.index,
        point=dict(first.point),
        succeeded=sum(result.state is State.SUCCEEDED for result in results),
        files=len(names),
        same=len(names - unlike),
        within=len(unlike - beyond),
        metrics=sum(not is_time(name) and not _ignored(name, settings) for name in metrics),
        values={
            name: tuple(each.metrics.get(name) for each in results) for name in sorted(metrics)
        },
        seconds=tuple(round(each.finished_at - each.started_at, 6) for each in results),
        fingerprints=tuple(_fingerprint(_compared(each, settings)) for each in results),
        differences=tuple(differences),
        causes=tuple(_causes(results)) if differences else (),
    )


def _states(first: Result, result: Result, run: int) -> Iterator[Difference]:
    if first.state is not result.state:
        where = f"{first.state.value} / {result.state.value}"
        yield Difference(first.index, run, "state", where, None, False)


def _ignored(name: str, settings: VerifySettings) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in settings.ignored)


def _metrics(
    first: Result, result: Result, run: int, settings: VerifySettings
) -> Iterator[Difference]:
    for each in unequal(first.metrics, result.metrics):
        if _ignored(each.name, settings):
            continue
        # as texts, so that numbers are told from what is none by the same rule as in files
        one, other = repr(each.before), repr(each.now)
        found = compare(one.encode(), other.encode(), settings.tolerance)
        if found is not None:
            where = f"{each.before} / {each.now}"
            yield Difference(first.index, run, each.name, where, found.largest, found.within)


def _compared(result: Result, settings: VerifySettings) -> dict[str, Artifact]:
    return {
        each.name: each
        for each in result.artifacts
        if not any(fnmatchcase(each.name, log) for log in _LOGS)
        and not _ignored(each.name, settings)
    }


def _fingerprint(files: Mapping[str, Artifact]) -> str:
    lines = sorted(f"{each.sha256}  {name}\n" for name, each in files.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _files(
    store: Store, first: Result, result: Result, run: int, settings: VerifySettings
) -> Iterator[Difference]:
    ours, theirs = _compared(first, settings), _compared(result, settings)
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(name), theirs.get(name)
        if one is None or other is None:
            where = f"only in run {1 if other is None else run}"
            yield Difference(first.index, run, name, where, None, False)
        elif one.sha256 != other.sha256:
            found = compare(_content(store, one), _content(store, other), settings.tolerance)
            # what has another hash is not the same
            assert found is not None
            yield Difference(first.index, run, name, found.where, found.largest, found.within)


def _content(store: Store, artifact: Artifact) -> bytes:
    out = io.BytesIO()
    store.get(artifact.sha256, out)
    return out.getvalue()


def _causes(results: Sequence[Result]) -> Iterator[str]:
    """Facts that are not the same in all runs, and may be why their results are not."""
    for name in _CAUSES:
        values = [result.provenance.get(name) for result in results]
        if len(set(values)) > 1:
            yield f"{name}: " + ", ".join(
                f"{value or '?'} (run {n})" for n, value in enumerate(values, 1)
            )
