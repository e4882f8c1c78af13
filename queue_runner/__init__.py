"""Run parameter studies of OpenFOAM cases, MPI programs and other commands on a message queue.

    from queue_runner import Study, linear, run
    handle = run(Study(name="s", kind="command", parameters={"x": linear(0, 1, 5)}, command=...))

Names are imported when they are first used, so that `import queue_runner` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from queue_runner.client.client import Client, StudyHandle
    from queue_runner.client.runs import run, run_open
    from queue_runner.errors import QueueRunnerError
    from queue_runner.model import Job, Result, State, StudyStatus
    from queue_runner.study import Study, linear, load_study, log, range_, sample

_HOMES = {
    "Client": "queue_runner.client.client",
    "Job": "queue_runner.model",
    "QueueRunnerError": "queue_runner.errors",
    "Result": "queue_runner.model",
    "State": "queue_runner.model",
    "Study": "queue_runner.study",
    "StudyHandle": "queue_runner.client.client",
    "StudyStatus": "queue_runner.model",
    "linear": "queue_runner.study",
    "load_study": "queue_runner.study",
    "log": "queue_runner.study",
    "range_": "queue_runner.study",
    "run": "queue_runner.client.runs",
    "run_open": "queue_runner.client.runs",
    "sample": "queue_runner.study",
}

__all__ = [
    "Client",
    "Job",
    "QueueRunnerError",
    "Result",
    "State",
    "Study",
    "StudyHandle",
    "StudyStatus",
    "linear",
    "load_study",
    "log",
    "range_",
    "run",
    "run_open",
    "sample",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'queue_runner' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
