"""What of a job makes it a call."""

from __future__ import annotations

from dataclasses import replace

import pytest

from queue_runner.model import Job, Resources
from queue_runner.workers.kinds.command import CommandKind

_JOB = Job("s.0", "s", 0, "command", {}, {"steps": [["echo", "a"]]})


@pytest.mark.parametrize(
    "other",
    [
        {"resources": Resources(wall_time_s=1.0)},
        {"resources": Resources(memory_bytes=1)},
        {"measure": {"log": {"x": "x"}}},
        {"keep": ("*",)},
        {"image": "name:tag@sha256:0"},
        {"spec": {"steps": [["echo"], ["echo"]]}},
    ],
)
def test_one_that_is_no_call_is_none_after_one_that_is(other: dict[str, object]) -> None:
    kind = CommandKind()
    assert kind.call(_JOB) is not None
    assert kind.call(replace(_JOB, **other)) is None  # type: ignore[arg-type]
    assert kind.call(_JOB) is not None


@pytest.mark.parametrize(
    "spec", [{"steps": [["echo", "b"]]}, {"steps": [["echo", "a"]], "env": {"A": "a"}}]
)
def test_each_has_its_own_arguments(spec: dict[str, object]) -> None:
    kind, other = CommandKind(), replace(_JOB, spec=spec)
    calls = [kind.call(job) for job in (_JOB, other, _JOB)]
    told = [(list(call.args["argv"]), call.args["env"]) for call in calls if call is not None]
    assert told[0] == told[2] == (["echo", "a"], {})
    assert told[1] == (spec["steps"][0], spec.get("env", {}))  # type: ignore[index]
