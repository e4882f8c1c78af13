"""What the Docker engine says no to: the job's fault, or its own trouble."""

from __future__ import annotations

from typing import TYPE_CHECKING

from queue_runner.errors import EngineUnavailable, JobError
from queue_runner.model import Reason
from queue_runner.workers.kinds.base import Step

if TYPE_CHECKING:
    from docker.errors import APIError

#: Of the container runtime, about the program; the engine answers them as 400 or, before version 23, 500.
_OF_THE_PROGRAM = ("exec format error", "argument list too long")


def refused(error: APIError, step: Step, what: str) -> JobError | EngineUnavailable:
    """`what`: such as "does not start".

    A status from 500 is trouble of the engine (moby's api/swagger.yaml: "server error"): the next try or
    another worker may do better, so the job is not failed for it.
    """
    said = str(error.explanation)
    text = f"the Docker engine {what} {step.argv[0]!r}: {said}"
    own_trouble = (error.status_code or 500) >= 500
    named = f'exec: "{step.argv[0]}"'
    if own_trouble and not any(each in said for each in (named, *_OF_THE_PROGRAM)):
        return EngineUnavailable(text)
    return JobError(Reason.PREPARE, text, step=step.name)
