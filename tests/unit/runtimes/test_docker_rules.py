"""What the docker runtime decides without an engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests
from docker.errors import APIError

from queue_runner.errors import EngineUnavailable, JobError
from queue_runner.images.engine import engine_errors
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.runtimes.base import Stop
from queue_runner.workers.runtimes.docker.attempt import Attempt
from queue_runner.workers.runtimes.docker.containers import Containers
from queue_runner.workers.runtimes.docker.cpus import Cpus
from queue_runner.workers.runtimes.docker.images import pin, repository
from queue_runner.workers.runtimes.docker.refusals import refused
from queue_runner.workers.runtimes.docker.runtime import _cpu_numbers
from queue_runner.workers.runtimes.docker.site import ImageSite
from tests.unit.runtimes.flickering import Flickering

STEP = Step("solve", ("solve",), "log.solve")


def answer(status: int, said: str) -> APIError:
    response = requests.Response()
    response.status_code = status
    return APIError(f"{status} Server Error", response=response, explanation=said)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("queue-runner/mpi", "queue-runner/mpi"),
        ("queue-runner/mpi:latest", "queue-runner/mpi"),
        ("localhost:5000/mpi", "localhost:5000/mpi"),
        ("localhost:5000/team/mpi:2.1", "localhost:5000/team/mpi"),
        ("localhost:5000/mpi:2.1@sha256:" + "0" * 64, "localhost:5000/mpi"),
    ],
)
def test_the_port_of_a_registry_is_no_tag(image: str, name: str) -> None:
    assert repository(image) == name


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, 'exec: "solve": executable file not found in $PATH'),
        (500, 'OCI runtime create failed: exec: "solve": executable file not found in $PATH'),
        (500, "OCI runtime create failed: exec format error"),
        (500, 'OCI runtime create failed: exec: "solve": permission denied: unknown'),
        (500, "OCI runtime create failed: exec /sbin/docker-init: argument list too long"),
        (409, "conflict"),
    ],
)
def test_what_is_the_jobs_fault_fails_it(status: int, said: str) -> None:
    error = refused(answer(status, said), STEP, "does not start")
    assert isinstance(error, JobError)
    assert str(error) == f"the Docker engine does not start 'solve': {said}"


@pytest.mark.parametrize(
    "said",
    [
        "no space left on device",
        "context deadline exceeded",
        "mkdir /var/lib/docker/overlay2/1/merged: permission denied",
        'OCI runtime create failed: exec: "/sbin/docker-init": no such file or directory',
        "open /run/containerd/shim.sock: no such file or directory",
    ],
)
def test_the_engines_own_trouble_gives_the_job_back(said: str) -> None:
    assert isinstance(refused(answer(500, said), STEP, "does not start"), EngineUnavailable)


class Unattachable:
    """What podman 4.3 answers for a container that has not started."""

    id = "8f21a541"

    def attach_socket(self, params: dict[str, int]) -> None:
        raise answer(409, "container state improper")


def test_an_engine_that_does_not_attach_fails_the_job_and_leaves_nothing_open(
    tmp_path: Path,
) -> None:
    stop = Stop()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(JobError, match="does not attach, before its start, to 'solve'"):
        Attempt(Unattachable(), STEP, tmp_path).run(None, stop)
    assert os.listdir("/proc/self/fd") == before
    stop.close()


def test_an_engine_in_trouble_is_told_from_an_answer() -> None:
    with pytest.raises(EngineUnavailable, match="is in trouble"), engine_errors():
        raise answer(500, "layer does not exist")
    with pytest.raises(APIError), engine_errors():
        raise answer(404, "no such image")


def test_cpus_are_given_once_and_come_back(tmp_path: Path) -> None:
    one, other = Cpus([0, 1, 2], tmp_path / "cpus"), Cpus([0, 1, 2], tmp_path / "cpus")
    with one.taken(2) as first:
        assert first == (0, 1)
        with other.taken(1) as second:
            assert second == (2,)
            with one.taken(1) as third:
                assert third is None
        with other.taken(2) as too_many:
            assert too_many is None
            # what was not enough is free again
            with one.taken(1) as last:
                assert last == (2,)
    with other.taken(3) as all_of_them:
        assert all_of_them == (0, 1, 2)


TAKE_AND_DIE = """
import os, sys
from pathlib import Path
from queue_runner.workers.runtimes.base import Stop
from queue_runner.workers.runtimes.docker.attempt import Attempt
from queue_runner.workers.runtimes.docker.containers import Containers
from queue_runner.workers.runtimes.docker.cpus import Cpus
with Cpus([0], Path(sys.argv[1])).taken(1) as mine:
    print(mine, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_the_cpus_of_a_killed_worker_are_free(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TAKE_AND_DIE, str(tmp_path)], capture_output=True, text=True
    )
    assert done.stdout == "(0,)\n"
    with Cpus([0], tmp_path).taken(1) as mine:
        assert mine == (0,)


def test_an_engine_that_goes_while_an_image_is_asked_is_no_fault_of_the_job() -> None:
    image = SimpleNamespace(id="sha256:0", attrs={"Config": {"Env": []}})
    site = ImageSite(Containers(cast("Any", Flickering(away=10**9)), {}), cast("Any", image))
    for ask in (
        lambda: site.which("solve"),
        lambda: site.newest("/opt/*"),
        lambda: site.is_file("/x"),
    ):
        with pytest.raises(EngineUnavailable):
            ask()


ID, OURS, THEIRS = (f"sha256:{letter * 64}" for letter in "abc")


@pytest.mark.parametrize(
    ("asked", "known", "digest"),
    [
        ("mpi:1", [], ID),
        ("here:5000/mpi:1", [f"there/mpi@{THEIRS}", f"here:5000/mpi@{OURS}"], OURS),
        # another repository's digest would not be found by this one's name
        ("mpi:1", [f"there/mpi@{THEIRS}"], ID),
        ("docker.io/library/debian:12", [f"debian@{OURS}"], OURS),
        ("docker.io/team/mpi", [f"team/mpi@{OURS}"], OURS),
    ],
)
def test_a_tag_is_pinned_to_the_digest_of_its_own_repository(
    asked: str, known: list[str], digest: str
) -> None:
    image = SimpleNamespace(id=ID, attrs={"RepoDigests": known})
    client = SimpleNamespace(images=SimpleNamespace(get={asked: image}.__getitem__))
    assert pin(cast("Any", client), asked) == f"{asked}@{digest}"


@pytest.mark.parametrize(
    ("url", "local"),
    [("http+docker://localhost", True), ("http+docker://ssh", False), ("http://node:2375", False)],
)
def test_cpus_are_this_machines_only_where_the_engine_is_here(url: str, local: bool) -> None:
    api = SimpleNamespace(base_url=url)
    client = SimpleNamespace(api=api, info=lambda: {"NCPU": 512})
    assert (len(_cpu_numbers(cast("Any", client))) == 512) is not local


def test_a_janitor_without_an_engine_says_so_in_one_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "queue_runner.workers.runtimes.janitor",
        str(tmp_path / "lock"),
        "containers",
    ]
    env = os.environ | {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    done = subprocess.run(command, env=env, input="", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "queue-runner: what this worker may have left is for the next one"
    )
    assert len(done.stderr.splitlines()) == 1
