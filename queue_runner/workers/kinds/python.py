"""Kind `python`: a function, called in a warm process of the worker's own interpreter."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import msgpack

from queue_runner.errors import JobError
from queue_runner.model import Job, Reason, Scalar
from queue_runner.workers.kinds.base import Call, Diagnosis, Kind, Step, is_short
from queue_runner.workers.leavings import open_file
from queue_runner.workers.measure import MAX_FILE_BYTES, flat_metrics
from queue_runner.workers.pybatch import RETURNED
from queue_runner.workers.site import HOST, current

_LOG = "log.python"
_ARGV = (sys.executable, "-m", "queue_runner.workers.pycall")


_CALLED = Step("python", _ARGV, _LOG)


class PythonKind(Kind):
    def prepare(self, job: Job, folder: Path) -> None:
        """The bundle is all that a function needs."""

    def steps(self, job: Job, folder: Path) -> Sequence[Step]:
        request = {
            "call": job.spec["call"],
            "args": job.spec["args"],
            "folder": str(folder),
            "log": _LOG,
        }
        return [Step("python", _ARGV, _LOG, request=msgpack.packb(request))]

    def call(self, job: Job) -> Call | None:
        if not is_short(job):
            return None
        return Call(_CALLED, job.spec["call"], job.spec["args"])

    def diagnose(self, job: Job, folder: Path, step: Step, log_tail: str) -> Diagnosis | None:
        """The last line of a traceback says more than an exit code."""
        last = log_tail.strip().splitlines()[-1:] if "Traceback (most recent" in log_tail else []
        if last:
            return Diagnosis(Reason.EXIT_CODE, f"{job.spec['call']} raised {last[0]}")
        return None

    def metrics(self, job: Job, folder: Path) -> dict[str, Scalar]:
        try:
            with open_file(folder / RETURNED) as returned:
                text = returned.read(MAX_FILE_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            return {}
        return self.returned(job, text)

    def returned(self, job: Job, text: str) -> dict[str, Scalar]:
        value = json.loads(text)
        if isinstance(value, dict):
            return flat_metrics(value, f"what {job.spec['call']} returned")
        if isinstance(value, list):
            raise JobError(
                Reason.METRICS,
                f"{job.spec['call']} returned a list; expected a map of names to numbers, or one number",
            )
        return {"value": value}

    def provenance(self, job: Job, folder: Path) -> dict[str, str]:
        # the interpreter of an image is the image's
        return {"python": platform.python_version()} if current() is HOST else {}
