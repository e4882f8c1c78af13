"""A study: validated, with its points and its jobs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Self

from queue_runner.errors import StudyError
from queue_runner.model import Job, Resources, Resume, RetryPolicy, Scalar, StudyRecord, like
from queue_runner.study import schema
from queue_runner.study.blame import blame, failing
from queue_runner.study.braces import Template as Braces
from queue_runner.study.expressions import ExpressionError
from queue_runner.study.kinds.base import Place, Template, whole
from queue_runner.study.parameters import suspicious
from queue_runner.study.problems import Locator, Problems, field_name
from queue_runner.study.reading import kind_of, plain_values, section_of, sound, with_points
from queue_runner.study.space import FEWER, MAX_POINTS, Space, describe, make_space

#: A study's record goes through the broker as one message.
_MAX_RECORD_BYTES = 8 * 1024 * 1024
#: Points that `check` renders to find out what only shows with values.
_CHECKED_POINTS = 1000
#: Points before `where` that `check` goes through, in less than a minute.
_TRIED_POINTS = 1_000_000


@dataclass(frozen=True, slots=True)
class StudySummary:
    """What `check` found; before: points before `where`; tried: so many of these were looked at, and
    `jobs` is what they make; points: the first ones; open: parameters whose values are given later.
    """

    name: str
    kind: str
    jobs: int
    before: int
    tried: int
    parameters: tuple[str, ...]
    points: tuple[Mapping[str, Scalar], ...]
    warnings: tuple[str, ...]
    open: tuple[str, ...] = ()


class Study:
    """A template, a space of parameters, how to run it and what to measure.

    The keywords are the fields of a study file (docs/study-files.md), `name` being its `study`:

        Study(name="s", kind="command", parameters={"x": linear(0, 1, 5)},
              command={"run": ["./solve", "{x}"]})

    folder: where relative paths start; the current folder by default. Raises `StudyError`.
    """

    def __init__(self, *, name: str, folder: str | Path | None = None, **fields: Any) -> None:
        place = Place(Path(folder) if folder is not None else Path.cwd(), confined=False)
        document = plain_values({"study": name, **fields})
        self._set_up(document, place, lambda path: f"study {name}: ")

    @classmethod
    def from_document(cls, document: Mapping[str, Any], place: Place, locate: Locator) -> Self:
        """A study out of what a file held; `locate` finds the line for an error."""
        study = cls.__new__(cls)
        study._set_up(document, place, locate)
        return study

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        """The study of a `StudyRecord`; its jobs can be made again, its template cannot."""
        name = spec.get("study", "?")
        return cls.from_document(spec, Place(Path.cwd(), True), lambda path: f"study {name}: ")

    @classmethod
    def from_record(cls, record: StudyRecord) -> Self:
        """The study as it was submitted; its template is the one that is in the store."""
        study = cls.from_spec(record.spec)
        study._bundle = record.bundle
        return study

    def _set_up(self, document: Mapping[str, Any], place: Place, locate: Locator) -> None:
        problems = Problems(locate)
        document = with_points(document, place, problems)
        kind_name, self._kind = kind_of(document, problems)
        common = {key: value for key, value in document.items() if key != kind_name}
        self._model: schema.StudyModel = schema.validate(schema.StudyModel, common, (), problems)
        self._section = section_of(self._kind, kind_name, document, problems)
        if sound(problems):
            self._check_keep(problems)
        space = make_space(document, problems) if sound(problems) else None
        problems.check()
        assert space is not None
        self._document, self._place, self._locate = document, place, locate
        self._space: Space = space
        self._bundle: str | None = None
        self._ids: dict[str | None, str] = {}
        self._compile(problems)
        problems.check()

    def _check_keep(self, problems: Problems) -> None:
        resume = self._model.resume if self._model is not None else None
        if resume is None or bool(resume.keep) != self._kind.resumes:
            return
        if self._kind.resumes:
            text = f"kind {self._model.kind} knows by itself what a job goes on from: leave it out"
            problems.add(("resume", "keep"), text)
        else:
            text = "say which files a job goes on from, such as resume: {keep: ['state.*']}"
            problems.add(("resume",), text)

    def _compile(self, problems: Problems) -> None:
        names = self._space.names
        known = {*names, "point"}
        cores = self._model.resources.cores
        parts = {
            (self.kind,): self._kind.spec(self._section, names),
            ("resources", "cores"): self._kind.ranks(self._section) if cores is None else cores,
        }
        compiled = {}
        for path, value in parts.items():
            try:
                compiled[path] = Braces(value, known)
            except ExpressionError as error:
                problems.add(blame(self._document, path, error), str(error))
        if len(compiled) == len(parts):
            self._spec, self._cores = compiled.values()
            self._ranks = Braces(self._kind.ranks(self._section), known)

    def __repr__(self) -> str:
        # not how many jobs: with `where`, counting them may take minutes
        return f"Study({self.name!r}, kind={self.kind!r}, parameters={list(self.parameters)})"

    # -- what it says of itself ------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._model.study

    @property
    def kind(self) -> str:
        return self._model.kind

    @property
    def queue(self) -> str:
        return self._model.queue

    @property
    def image(self) -> str | None:
        """What its containers are made of; None for each worker's own choice."""
        return self._model.image

    def with_image(self, image: str) -> Self:
        """The same study in another image."""
        return self._with(image=image)

    def repeated(self, name: str, keep: Sequence[str], worker: str | None = None) -> Self:
        """The same jobs as a study of another name, that keep these files, on one worker only."""
        return self._with(study=name, keep=list(keep), worker=worker)

    def _with(self, **fields: Any) -> Self:
        document = {**self._document, **fields}
        given = {key: value for key, value in document.items() if value is not None}
        study = self.from_document(given, self._place, self._locate)
        study._bundle = self._bundle
        return study

    @property
    def bundle(self) -> str | None:
        """The hash of a template that is in the store already; None where its folder is to be sent."""
        return self._bundle

    @property
    def keep(self) -> tuple[str, ...]:
        """Globs of the files that its jobs keep."""
        return self._keep

    @property
    def outputs(self) -> tuple[str, ...]:
        """Globs of the files that its jobs write, whether they are kept or not."""
        return self._kind.outputs

    @property
    def parameters(self) -> tuple[str, ...]:
        return self._space.names

    @property
    def open(self) -> bool:
        """Whether its points are given later, one by one."""
        return bool(self._space.open)

    @property
    def total(self) -> int:
        """How many jobs it makes."""
        return self._space.total

    def points(self, start: int = 0) -> Iterator[dict[str, Scalar]]:
        """The points, in the order of the jobs, one at a time."""
        return self._space.points(start)

    def points_at(self, numbers: Iterable[int]) -> Iterator[tuple[int, dict[str, Scalar]]]:
        """Those of the points with these numbers, which come in their order, that there are."""
        return self._space.points_at(numbers)

    def complete(self, values: Mapping[str, object]) -> dict[str, Scalar]:
        """A point of an open study, with the parameters that are derived from these `values`.

        Raises `StudyError`.
        """
        if not self.open:
            raise StudyError(
                f"study {self.name} takes no further points: it is not open (see `open` in a study)"
            )
        return self._space.complete(plain_values(values))

    def insist_on_points(self) -> None:
        """Raises `StudyError` for an open study where nothing is there that would add points to it."""
        if self.open:
            raise StudyError(
                f"{self._locate(('open',))}study {self.name} is open: its points are added while it runs,"
                " with `queue-runner submit` and `add`, or from Python with `run_open` (docs/study-files.md)"
            )

    def closed(self, points: Iterable[Mapping[str, Scalar]]) -> Self:
        """An open study with these points, and no others."""
        given = [{name: point[name] for name in self._space.open} for point in points]
        if not given:
            raise StudyError(f"study {self.name} is open, and no point was added to it yet")
        return self._with(open=None, points=given)

    def template(self) -> Template | None:
        """The folder that goes with the jobs. Raises `StudyError`."""
        try:
            return self._kind.template(self._section, self._place)
        except ValueError as error:
            field = "case" if self.kind == "openfoam" else "files"
            raise StudyError(
                f"{self._locate((self.kind, field))}{self.kind}.{field}: {error}"
            ) from error

    def verify(self) -> list[str]:
        """Looks at the files that the study needs; returns warnings. Raises `StudyError`."""
        self.template()
        problems = Problems(self._locate)
        warnings = self._kind.check(self._section, self._place, problems)
        if self._model.resume is not None:
            warnings += self._kind.check_resume(self._section, self._place, problems)
        problems.check()
        return [*warnings, *self._warnings()]

    def _warnings(self) -> Iterator[str]:
        used = self._space.used | self._spec.used | self._cores.used
        # a derived one may be there for the table only, such as a Reynolds number
        shown = self._document.get("derived") or {}
        for name in self._space.names:
            if name not in used and name not in shown:
                yield f"nothing uses the parameter {name!r}"
        yield from suspicious(self._document.get("parameters") or {})
        sample = self._model.sample
        if sample is not None and sample.method == "sobol" and sample.count & (sample.count - 1):
            yield f"a Sobol sequence of {sample.count} points is unbalanced; use a power of two"

    def check(self, shown: int = 5) -> StudySummary:
        """What it comes to, without running anything. Raises `StudyError`."""
        warnings = self.verify()
        tried = self._space.before
        if self._space.conditional:
            tried = min(_TRIED_POINTS, tried)
        points = self._space.points(most=tried)
        for index, point in enumerate(islice(points, _CHECKED_POINTS)):
            self._own(self.name, index, point)
        jobs = self._space.total_of(tried)
        if not jobs and tried == self._space.before and not self.open:
            raise self._no_jobs()
        return StudySummary(
            name=self.name,
            kind=self.kind,
            jobs=jobs,
            before=self._space.before,
            tried=tried,
            parameters=self.parameters,
            points=tuple(islice(self._space.points(most=tried), shown)),
            warnings=tuple(warnings),
            open=self._space.open,
        )

    # -- jobs ------------------------------------------------------------------------------------

    def id(self, bundle: str | None) -> str:
        """NAME-HASH: equal for studies that give the same results, whatever their queue or retries."""
        if bundle not in self._ids:
            self._ids[bundle] = self._id(bundle)
        return self._ids[bundle]

    def _id(self, bundle: str | None) -> str:
        spec = self._document
        decisive = ("study", "kind", self.kind, "parameters", "zip", "sample", "points", "open", "derived",
                    "where", "measure", "keep", "image", "container")  # fmt: skip
        content = {key: spec[key] for key in decisive if spec.get(key)}
        content["bundle"] = bundle
        content["cores"] = self._model.resources.cores
        text = json.dumps(content, sort_keys=True, default=str)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    def record(self, bundle: str | None, submitted_at: float) -> StudyRecord:
        """What the collector keeps: enough to make any job again.

        Raises `StudyError` for a study that is too large, or has no job at all.
        """
        size = len(json.dumps(self._document, default=str))
        if size > _MAX_RECORD_BYTES:
            raise StudyError(
                f"study {self.name}: its definition takes {size / 1024**2:.0f} MiB, of which the limit is"
                f" {_MAX_RECORD_BYTES // 1024**2}. Split `points` into several studies, or describe"
                " them with ranges or samples."
            )
        if not self.total and not self.open:
            raise self._no_jobs()
        if self.total > MAX_POINTS:
            raise StudyError(
                f"{self._locate(('parameters',))}parameters: {self.total} jobs, of which the limit is"
                f" {MAX_POINTS}. {FEWER}"
            )
        return StudyRecord(
            id=self.id(bundle),
            name=self.name,
            kind=self.kind,
            total=self.total,
            parameters=self.parameters,
            spec=self._document,
            bundle=bundle,
            queue=self.queue,
            submitted_at=submitted_at,
            open=self.open,
        )

    def _no_jobs(self) -> StudyError:
        return StudyError(
            f"{self._locate(('where',))}where: there is no job: none of the"
            f" {self._space.before} points satisfies all conditions"
        )

    def jobs(self, bundle: str | None, start: int = 0) -> Iterator[Job]:
        """The jobs from number `start` on, made one at a time. Raises `StudyError`."""
        return self.jobs_at(enumerate(self.points(start), start), bundle)

    def jobs_at(
        self, points: Iterable[tuple[int, dict[str, Scalar]]], bundle: str | None
    ) -> Iterator[Job]:
        """A job for each point with its number. Raises `StudyError`."""
        study, first = self.id(bundle), None
        for index, point in points:
            own = self._own(study, index, point)
            job = self._job(study, bundle, own) if first is None else like(first, own)
            first = first or job
            yield job

    def job(self, index: int, bundle: str | None) -> Job:
        """Job number `index`."""
        job = next(self.jobs_at(self.points_at([index]), bundle), None)
        if job is None:
            raise StudyError(f"study {self.name}: no job {index}; it has {self.total}")
        return job

    def _own(self, study: str, index: int, point: dict[str, Scalar]) -> dict[str, Any]:
        """The fields of a job that the jobs of a study do not share."""
        try:
            names = {**point, "point": index}
            spec = self._kind.finish(self._spec.fill(names))
            resources = self._same_resources or self._resources(names)
        except (ExpressionError, ValueError) as error:
            raise self._at_point(error, index, point) from error
        return {
            "id": f"{study}.{index:07}",
            "index": index,
            "point": point,
            "spec": spec,
            "resources": resources,
        }

    def _job(self, study: str, bundle: str | None, own: Mapping[str, Any]) -> Job:
        return Job(
            study=study,
            kind=self.kind,
            bundle=bundle,
            retry=self._retry,
            measure=self._measure,
            keep=self._keep,
            queue=self.queue,
            priority=self._model.priority,
            image=self._model.image,
            container=self._container,
            worker=self._model.worker,
            resume=self._resume,
            **own,
        )

    def _at_point(self, error: ValueError, index: int, point: Mapping[str, Scalar]) -> StudyError:
        names = {**point, "point": index}
        path = next(
            (found for part in ((self.kind,), ("resources",))
             if (found := failing(self._document.get(part[0]), part, names, error))),
            (self.kind,),
        )  # fmt: skip
        field = "" if str(error).startswith(f"{field_name(path)}") else f"{field_name(path)}: "
        return StudyError(
            f"{self._locate(path)}{field}{error} at point {index} ({describe(point)})"
        )

    @cached_property
    def _same_resources(self) -> Resources | None:
        """Those of every job, where no parameter decides on them."""
        return None if self._cores.used or self._ranks.used else self._resources({})

    def _resources(self, names: Mapping[str, Any]) -> Resources:
        limits = self._model.resources
        return Resources(
            cores=whole(self._cores.fill(names), "resources.cores"),
            ranks=whole(self._ranks.fill(names), "ranks"),
            memory_bytes=limits.memory,
            disk_bytes=limits.disk,
            wall_time_s=limits.wall_time,
        )

    def largest_cores(self) -> int:
        """The cores of the largest job."""
        if not self._cores.used:
            return self._resources({"point": 0}).cores if not self._ranks.used else 1
        return max(
            (whole(self._cores.fill({**point, "point": index}), "resources.cores")
             for index, point in enumerate(self.points())),
            default=1,
        )  # fmt: skip

    @cached_property
    def _retry(self) -> RetryPolicy:
        retries = self._model.retries
        return RetryPolicy(
            retries.count, tuple(retries.on), retries.first, retries.factor, retries.max
        )

    @cached_property
    def _resume(self) -> Resume | None:
        resume = self._model.resume
        return None if resume is None else Resume(resume.every, tuple(resume.keep))

    @cached_property
    def _container(self) -> Mapping[str, Any]:
        return self._model.container.model_dump(exclude_defaults=True)

    @cached_property
    def _keep(self) -> tuple[str, ...]:
        return tuple(self._model.keep)

    @cached_property
    def _measure(self) -> Mapping[str, Any]:
        measure = self._model.measure.model_dump(exclude_none=False)
        log = [{"name": name, **pattern} for name, pattern in measure["log"].items()]
        asked: dict[str, Any] = {"metrics": measure["metrics"], "log": log}
        if measure["openfoam"] is not None:
            asked["openfoam"] = measure["openfoam"]
        return {name: wanted for name, wanted in self._kind.measure(asked).items() if wanted}
