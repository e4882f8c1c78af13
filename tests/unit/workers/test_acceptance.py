"""What a worker accepts: rules that no message can widen."""

from __future__ import annotations

from typing import Any

import pytest

from queue_runner.errors import FixThis, JobError
from queue_runner.model import Job, Reason, RetryPolicy
from queue_runner.workers.acceptance import ANYTHING, Acceptance

TAG, ID = "queue-runner/mpi:latest", "sha256:" + "a" * 64


def job(kind: str = "command", **container: Any) -> Job:
    return Job("s.0000000", "s", 0, kind, {}, {}, container=container)


def refusal(rules: Acceptance, asked: Job) -> str:
    with pytest.raises(JobError) as caught:
        rules.check(asked)
    assert caught.value.reason == Reason.REFUSED
    return str(caught.value)


def test_without_rules_all_is_accepted_that_a_study_can_ask() -> None:
    ANYTHING.check(job())
    ANYTHING.check(job("mpi", network="bridge", shm=2**30, cpuset=True))
    ANYTHING.check_runtime("process")
    ANYTHING.check_image(TAG, [])


@pytest.mark.parametrize("rules", [ANYTHING, Acceptance(networks=("*",))])
def test_the_hosts_network_is_never_lent(rules: Acceptance) -> None:
    assert "'host', which is never lent" in refusal(rules, job(network="host"))


@pytest.mark.parametrize("name", ["mounts", "privileged", "cap_add", "devices"])
def test_container_settings_that_no_study_has_are_refused(name: str) -> None:
    assert name in refusal(ANYTHING, job(**{name: True}))


def test_kinds_and_networks_are_matched_by_pattern() -> None:
    rules = Acceptance(kinds=("open*", "mpi"), networks=("lab-*",))
    rules.check(job("openfoam"))
    rules.check(job("mpi", network="lab-1"))
    rules.check(job("mpi", network="none"))
    text = refusal(rules, job("command"))
    assert text == (
        "the job asks for the kind command, and this worker accepts open*, mpi. Add it to accept.kinds"
        " in the worker's configuration, or send the job to another queue"
    )
    assert "accepts lab-*. Add it to accept.networks" in refusal(
        rules, job("mpi", network="bridge")
    )
    assert "accepts none. Add it" in refusal(Acceptance(networks=()), job(network="bridge"))


@pytest.mark.parametrize("pattern", ["queue-runner/*", TAG, ID, "queue-runner/mpi:*"])
def test_images_are_matched_by_what_they_are_called_here(pattern: str) -> None:
    rules = Acceptance(images=(pattern,))
    rules.check_image(f"{TAG}@{ID}", [TAG, ID])
    rules.check_image(None, [])  # the worker's own choice
    with pytest.raises(JobError, match=r"asks for the image .* \(here: evil:1, sha256:b\)"):
        rules.check_image(f"{TAG}@sha256:b", ["evil:1", "sha256:b"])
    with pytest.raises(JobError, match=r"here: unknown"):
        rules.check_image(TAG, [])


def test_a_runtime_that_is_not_accepted_stops_the_worker_at_its_start() -> None:
    with pytest.raises(FixThis, match=r"accepts only docker \(accept.runtimes\)"):
        Acceptance(runtimes=("docker",)).check_runtime("process")


def test_a_refusal_is_final() -> None:
    assert RetryPolicy(retries=5).wants(1, "exit-code")
    assert not RetryPolicy(retries=5).wants(1, Reason.REFUSED)
    assert not RetryPolicy(retries=5, on=("refused",)).wants(1, Reason.REFUSED)
