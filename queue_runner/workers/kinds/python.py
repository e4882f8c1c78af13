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
from queue_runner.workers.kinds.base import Diagnosis, Kind, Step
from queue_runner.workers.measure import flat_metrics
from queue_runner.workers.pycall import RETURNED
from queue_runner.workers.site import HOST, current

_LOG = "log.python"


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
        argv = (sys.executable, "-m", "queue_runner.workers.pycall")
        return [Step("python", argv, _LOG, request=msgpack.packb(request))]

    def diagnose(self, job: Job, folder: Path, step: Step, log_tail: str) -> Diagnosis | None:
        """The last line of a traceback says more than an exit code."""
        last = log_tail.strip().splitlines()[-1:] if "Traceback (most recent" in log_tail else []
        if last:
            return Diagnosis(Reason.EXIT_CODE, f"{job.spec['call']} raised {last[0]}")
        return None

    def metrics(self, job: Job, folder: Path) -> dict[str, Scalar]:
        try:
            text = (folder / RETURNED).read_text()
        except FileNotFoundError:
            return {}
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
