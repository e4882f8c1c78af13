"""Which runtime a run takes when none is named, where there is no engine."""

from __future__ import annotations

import sys

import pytest

from queue_runner import Study
from queue_runner.client.runtimes import choose_runtime

FIELDS = {"mpi": {"program": "./heat", "ranks": 2}, "command": {"run": ["true"]}}


def study(kind: str, **more: object) -> Study:
    section = {kind: {**FIELDS[kind], **more}} if more else {kind: FIELDS[kind]}
    return Study(name="s", kind=kind, parameters={"x": [1]}, **section)


def chosen(a_study: Study) -> tuple[str, list[str]]:
    said: list[str] = []
    return choose_runtime(a_study, said.append), said


def test_without_the_docker_package_it_is_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    monkeypatch.setitem(sys.modules, "docker.errors", None)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert chosen(study("mpi")) == ("process", ["as processes of this machine"])


def test_without_an_engine_it_is_processes_and_says_why_where_one_was_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    name, (said,) = chosen(study("mpi"))
    assert name == "process"
    assert "no Docker engine answers at unix:///nowhere/docker.sock" in said


def test_a_command_and_a_program_of_the_host_stay_on_it() -> None:
    assert chosen(study("command")) == ("process", [])
    assert chosen(study("mpi", program="/opt/solver/bin/solve")) == ("process", [])


def test_a_study_that_names_an_image_runs_in_it() -> None:
    named = Study(
        name="s", kind="command", parameters={"x": [1]}, command={"run": ["true"]},
        image="queue-runner/base:latest",
    )  # fmt: skip
    assert chosen(named) == ("docker", ["in containers of queue-runner/base:latest"])
