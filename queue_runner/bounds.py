"""What a value that came over the wire may say. Its types are right already; see `wire.py`.

One place, so that nobody further in has to ask whether an id is fit to be a folder's name, a count to be
added up, a name to be printed, or a pattern to stay in its folder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import singledispatch
from pathlib import PurePosixPath
from typing import Any

from queue_runner import model
from queue_runner.errors import WireError

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_QUEUE = re.compile(r"[A-Za-z0-9._-]{1,80}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: An Integer and a BigInteger of the database.
_MOST_INT, _MOST_BIGINT = 2**31 - 1, 2**63 - 1
_MOST_CORES = 1_000_000
_MOST_RETRIES = 1000
#: Ten years.
_MOST_SECONDS = 10 * 365 * 86400.0
#: Between two checkpoints.
_LEAST_PAUSE_S = 0.01
_MOST_NAME = 250
#: Of ** in a pattern of files: each one more multiplies the ways to each file by the depth of the folder.
MAX_STARS = 3
#: Of a regular expression, in characters.
MAX_PATTERN = 1000
_MOST_PATH = 4096


@singledispatch
def check(value: object) -> None:
    """Raises `WireError` that names the field and what is wrong with it."""
    raise WireError(f"{type(value).__name__} is no message")


@check.register
def _job(job: model.Job) -> None:
    own_of_job(job)
    _id("Job.study", job.study)
    _name("Job.kind", job.kind)
    _sha256("Job.bundle", job.bundle)
    _resources(job.resources)
    _retries(job.retry)
    _matching("Job.queue", job.queue, _QUEUE)
    _whole("Job.priority", job.priority, 0, model.MAX_PRIORITY)
    _optional(_name, "Job.image", job.image)
    _optional(_name, "Job.worker", job.worker)
    _optional(_name, "Job.held_by", job.held_by)
    _seconds("Job.held_s", job.held_s)
    for pattern in job.keep:
        within("Job.keep", pattern)
    if job.resume is not None:
        _resume(job.resume)
    _measure(job.measure)
    _container(job.container)


def own_of_job(job: model.Job) -> None:
    """What the jobs of one study do not share; see `alike.py`."""
    _id("Job.id", job.id)
    _whole("Job.index", job.index, 0, _MOST_BIGINT)
    _names("Job.point", job.point)


def _resources(asked: model.Resources) -> None:
    _whole("Job.resources.cores", asked.cores, 1, _MOST_CORES)
    _whole("Job.resources.ranks", asked.ranks, 1, _MOST_CORES)
    if asked.memory_bytes is not None:
        _whole("Job.resources.memory_bytes", asked.memory_bytes, 1, _MOST_BIGINT)
    if asked.disk_bytes is not None:
        _whole("Job.resources.disk_bytes", asked.disk_bytes, 1, _MOST_BIGINT)
    if asked.wall_time_s is not None:
        _seconds("Job.resources.wall_time_s", asked.wall_time_s)


def _retries(policy: model.RetryPolicy) -> None:
    _whole("Job.retry.retries", policy.retries, 0, _MOST_RETRIES)
    for reason in policy.on:
        _name("Job.retry.on", reason)
    _seconds("Job.retry.first_s", policy.first_s)
    _seconds("Job.retry.max_s", policy.max_s)
    if not 1 <= policy.factor <= 1000:
        raise WireError(f"Job.retry.factor: {policy.factor!r} is not from 1 to 1000")


def _resume(asked: model.Resume) -> None:
    _seconds("Job.resume.every_s", asked.every_s)
    if asked.every_s < _LEAST_PAUSE_S:
        raise WireError(f"Job.resume.every_s: {asked.every_s!r} is less than {_LEAST_PAUSE_S} s")
    for pattern in asked.keep:
        within("Job.resume.keep", pattern)


def _measure(asked: Mapping[str, Any]) -> None:
    """The files and patterns in it; see `workers/measure.py`."""
    _optional(within, "Job.measure.metrics", asked.get("metrics"))
    for pattern in _list("Job.measure.log", asked.get("log")):
        if not isinstance(pattern, dict):
            raise WireError(f"Job.measure.log: expected maps, got {type(pattern).__name__}")
        for field in ("name", "pattern"):
            _text(f"Job.measure.log.{field}", pattern.get(field))
        if len(pattern["pattern"]) > MAX_PATTERN:
            raise WireError(f"Job.measure.log.pattern: longer than {MAX_PATTERN} characters")
        _optional(within, "Job.measure.log.file", pattern.get("file"))
    openfoam = asked.get("openfoam") or {}
    if not isinstance(openfoam, dict):
        raise WireError(f"Job.measure.openfoam: expected a map, got {type(openfoam).__name__}")
    fields = openfoam.get("fields") or {}
    if not isinstance(fields, dict):
        raise WireError(f"Job.measure.openfoam.fields: expected a map, got {type(fields).__name__}")
    for field in fields:
        within("Job.measure.openfoam.fields", field)
    for function in _list("Job.measure.openfoam.functions", openfoam.get("functions")):
        within("Job.measure.openfoam.functions", function)


def _container(asked: Mapping[str, Any]) -> None:
    _optional(_id, "Job.container.network", asked.get("network"))
    if asked.get("shm") is not None:
        _whole("Job.container.shm", asked["shm"], 1, _MOST_BIGINT)


@check.register
def _result(result: model.Result) -> None:
    own_of_result(result)
    _id("Result.study", result.study)
    _whole("Result.attempt", result.attempt, 1, _MOST_INT)
    _name("Result.worker", result.worker, least=0)
    if result.failure is not None:
        _name("Result.failure.reason", result.failure.reason)
    for artifact in result.artifacts:
        within("Result.artifacts.name", artifact.name)
        _sha256("Result.artifacts.sha256", artifact.sha256)
        _whole("Result.artifacts.size_bytes", artifact.size_bytes, 0, _MOST_BIGINT)


def own_of_result(result: model.Result) -> None:
    """What the results of one study do not share; see `alike.py`."""
    _id("Result.job_id", result.job_id)
    _whole("Result.index", result.index, 0, _MOST_BIGINT)
    _names("Result.point", result.point)
    _time("Result.started_at", result.started_at)
    _time("Result.finished_at", result.finished_at)


@check.register
def _study(record: model.StudyRecord) -> None:
    _id("StudyRecord.id", record.id)
    _name("StudyRecord.name", record.name)
    _name("StudyRecord.kind", record.kind)
    _whole("StudyRecord.total", record.total, 0, _MOST_BIGINT)
    _names("StudyRecord.parameters", dict.fromkeys(record.parameters))
    _sha256("StudyRecord.bundle", record.bundle)
    _matching("StudyRecord.queue", record.queue, _QUEUE)
    _time("StudyRecord.submitted_at", record.submitted_at)


@check.register
def _submitted(item: model.JobsSubmitted) -> None:
    _id("JobsSubmitted.study", item.study)
    _whole("JobsSubmitted.upto", item.upto, 0, _MOST_BIGINT)


@check.register
def _added(item: model.PointsAdded) -> None:
    _id("PointsAdded.study", item.study)
    _whole("PointsAdded.first", item.first, 0, _MOST_BIGINT - len(item.points))
    for point in item.points:
        _names("PointsAdded.points", point)


@check.register
def _request(item: model.CancelRequest | model.RetryRequest | model.Cancel) -> None:
    where = type(item).__name__
    _id(f"{where}.study", item.study)
    for job in item.jobs:
        _id(f"{where}.jobs", job)


@check.register
def _heartbeat(beat: model.Heartbeat) -> None:
    _name("Heartbeat.worker", beat.worker)
    for field in ("host", "state", "version"):
        _name(f"Heartbeat.{field}", getattr(beat, field), least=0)
    for queue in beat.queues:
        _matching("Heartbeat.queues", queue, _QUEUE)
    for field in ("cores", "cores_free"):
        _whole(f"Heartbeat.{field}", getattr(beat, field), -_MOST_CORES, _MOST_CORES)
    _time("Heartbeat.at", beat.at)
    for running in beat.running:
        _id("Heartbeat.running.job_id", running.job_id)
        _id("Heartbeat.running.study", running.study)
        _whole("Heartbeat.running.attempt", running.attempt, 1, _MOST_INT)
        _time("Heartbeat.running.started_at", running.started_at)


# -- single values -------------------------------------------------------------------------------------


def within(where: str, path: object) -> None:
    """A path or pattern that stays below where it starts."""
    text = _text(where, path)
    parts = PurePosixPath(text).parts
    if not parts or text.startswith("/") or ".." in parts or "\0" in text or len(text) > _MOST_PATH:
        raise WireError(f"{where}: {text!r:.200} leads outside its folder, or is no path")
    if parts.count("**") > MAX_STARS:
        raise WireError(f"{where}: {text!r:.200} has more than {MAX_STARS} times **")


def _id(where: str, value: object) -> None:
    """Fit for the name of a folder, an environment variable, a URL and a column of the database."""
    _matching(where, value, _ID)


def _matching(where: str, value: object, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(_text(where, value)):
        raise WireError(f"{where}: {value!r:.200} does not match {pattern.pattern}")


def _name(where: str, value: object, least: int = 1) -> None:
    """What people read, on one line of a terminal."""
    text = _text(where, value)
    if not least <= len(text) <= _MOST_NAME or not text.isprintable():
        raise WireError(
            f"{where}: {text!r:.80} is not a printable text of {least} to {_MOST_NAME} characters"
        )


def _names(where: str, named: Mapping[str, object]) -> None:
    for name in named:
        _name(where, name)


def _sha256(where: str, value: str | None) -> None:
    if value is not None:
        _matching(where, value, _SHA256)


def _optional(one: Callable[[str, object], None], where: str, value: object) -> None:
    if value is not None:
        one(where, value)


def _text(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise WireError(f"{where}: expected text, got {type(value).__name__}")
    return value


def _list(where: str, value: object) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise WireError(f"{where}: expected a list, got {type(value).__name__}")
    return value


def _whole(where: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise WireError(f"{where}: {value!r:.60} is not a whole number from {low} to {high}")


def _seconds(where: str, value: float) -> None:
    if not 0 <= value <= _MOST_SECONDS:
        raise WireError(f"{where}: {value!r} is not a number of seconds up to ten years")


def _time(where: str, value: float) -> None:
    if not math.isfinite(value):
        raise WireError(f"{where}: {value!r} is no time")
