"""What a worker refuses of what jobs ask, through real brokers and against a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from queue_runner.client.submit import job_message
from queue_runner.images.engine import open_engine
from queue_runner.model import Result, RetryPolicy, State
from queue_runner.signing import UNSIGNED
from queue_runner.workers.acceptance import Acceptance
from tests.integration.lab import Lab
from tests.integration.system import System, eventually, study_folder


@pytest.fixture
def lab(broker_url: str, tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        lab = Lab(tmp_path, broker_url, stack)
        lab.seal = UNSIGNED
        lab.start_collector()
        yield lab


def failure(result: Result) -> tuple[str, str]:
    assert (result.state, result.final, result.attempt) == (State.FAILED, True, 1)
    assert result.failure is not None
    return result.failure.reason, result.failure.message


def test_what_is_asked_beyond_the_rules_fails_finally_and_is_never_run(lab: Lab) -> None:
    retry = RetryPolicy(retries=3, first_s=0.01)
    asked = {
        "kind python": lab.job(0, kind="python", retry=retry),
        "network bridge": lab.job(1, container={"network": "bridge"}, retry=retry),
        "network 'host', which is never lent": lab.job(2, container={"network": "host"}),
        "mounts": lab.job(3, container={"mounts": ["/:/host"]}, retry=retry),
    }
    lab.broker.publish([job_message(job) for job in asked.values()])
    lab.broker.publish([job_message(lab.job(4))])
    lab.start_worker(UNSIGNED, accept=Acceptance(kinds=("command",), networks=("lab",)))
    for text, job in asked.items():
        reason, message = failure(eventually(lambda job=job: lab.result(job.id)))
        assert reason == "refused"
        assert text in message
    assert eventually(lambda: lab.result("study-a.0000004")).state is State.SUCCEEDED
    assert lab.ledger.read_text() == "study-a 4\n"
    assert lab.broker.depth("jobs.default").dead == 0


@pytest.mark.containers
@pytest.mark.xdist_group("engine")
def test_an_image_is_what_the_engine_calls_it_and_not_what_the_message_does(
    zeromq_url: str, tmp_path: Path
) -> None:
    with open_engine() as engine:
        ours = engine.images.get("queue-runner/base:latest")
        other = engine.images.get("queue-runner/redis:latest")
    with ExitStack() as stack:
        lab = Lab(tmp_path, zeromq_url, stack)
        lab.start_collector()
        disguised = lab.job(0, image=f"queue-runner/base:latest@{other.id}")
        honest = lab.job(1, image=f"queue-runner/base:latest@{ours.id}")
        honest = lab.job(1, image=honest.image, spec={"steps": [["true"]]})
        lab.broker.publish([job_message(job, seal=lab.seal) for job in (disguised, honest)])
        rules = Acceptance(images=("queue-runner/base:*",), runtimes=("docker",))
        lab.start_worker(lab.seal, runtime="docker", accept=rules)
        reason, message = failure(eventually(lambda: lab.result(disguised.id)))
        assert reason == "refused"
        assert "(here: queue-runner/redis:latest, sha256:" in message
        assert eventually(lambda: lab.result(honest.id)).state is State.SUCCEEDED


STUDY = """\
study: refused
kind: command
parameters: {x: [1, 2]}
command: {run: [echo, "{x}"]}
"""


def test_the_rules_of_a_worker_stand_in_its_configuration(zeromq_url: str, tmp_path: Path) -> None:
    system = System(tmp_path, zeromq_url)
    rules = tmp_path / "config" / "queue-runner" / "config.toml"
    rules.parent.mkdir(parents=True)
    rules.write_text('[accept]\nkinds = ["openfoam", "mpi"]\nruntimes = ["process"]\n')
    try:
        system.start_collector()
        system.start_worker()
        assert system.call("submit", str(study_folder(system, STUDY)), "--wait").returncode == 1
        rows = system.json("results")
        assert [(row["state"], row["reason"]) for row in rows] == [("failed", "refused")] * 2
        assert "accepts openfoam, mpi. Add it to accept.kinds" in system.ok("show", rows[0]["job"])
        done = system.call("worker", "--runtime", "docker")
        assert (done.returncode, "accepts only process" in done.stderr) == (2, True), done.stderr
    finally:
        system.stop()
