"""The pytest plug-in as its users meet it: in a folder of their own, with a pytest of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from queue_runner.brokers import Message, connect
from queue_runner.images.engine import open_engine
from queue_runner.testing.contract.bench import eventually
from queue_runner.testing.servers import start_server

ROOT = Path(__file__).parents[2]
SETTINGS = ("QUEUE_RUNNER_TESTS_REQUIRE", "QUEUE_RUNNER_TESTING")
NOWHERE = "unix:///nowhere/docker.sock"

Pytest = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def user_pytest(tmp_path: Path) -> Pytest:
    def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_theirs.py").write_text(code)
        env = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "."]
        return subprocess.run(
            command, cwd=tmp_path, env=env | variables, capture_output=True, text=True, timeout=240
        )

    return run


def code_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize(
    "way", [pytest.param("containers", marks=pytest.mark.containers), "programs"]
)
def test_the_page_for_test_writers_holds_on_both_ways(user_pytest: Pytest, way: str) -> None:
    done = user_pytest("\n\n".join(code_blocks("docs/testing.md")), QUEUE_RUNNER_TESTING=way)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b5 passed\b", done.stdout), done.stdout


THREE = """
def test_redis(redis_url): ...
def test_rabbitmq(rabbitmq_url): ...
def test_zeromq(zeromq_url): ...
"""


def test_without_servers_tests_are_skipped_and_say_why(user_pytest: Pytest) -> None:
    done = user_pytest(THREE, PATH="/nowhere", DOCKER_HOST=NOWHERE)
    assert re.search(r"\b1 passed, 2 skipped\b", done.stdout), done.stdout
    assert "apt-get install redis-server" in done.stdout
    assert f"no Docker engine answers at {NOWHERE}" in done.stdout


def test_where_all_is_required_a_missing_server_is_an_error(user_pytest: Pytest) -> None:
    variables = {"DOCKER_HOST": NOWHERE, "QUEUE_RUNNER_TESTS_REQUIRE": "all"}
    done = user_pytest(THREE, QUEUE_RUNNER_TESTING="containers", **variables)
    assert re.search(r"\b1 passed, 2 errors\b", done.stdout), done.stdout


def test_a_misspelt_way_is_refused(user_pytest: Pytest) -> None:
    done = user_pytest(THREE, QUEUE_RUNNER_TESTING="container")
    assert "QUEUE_RUNNER_TESTING=container: expected one of containers, programs" in done.stdout


def test_each_test_has_a_namespace_of_its_own(user_pytest: Pytest) -> None:
    code = """
import pytest
from queue_runner.brokers import Message, connect
@pytest.mark.parametrize("turn", [1, 2])
def test_empty(broker_url, turn):
    with connect(broker_url) as broker:
        assert broker.depth("jobs").ready == 0
        broker.publish([Message(queue="jobs", body=b"mine")])
"""
    assert user_pytest(code).returncode == 0


@pytest.mark.containers
@pytest.mark.parametrize("name", ["redis", "rabbitmq"])
def test_a_container_may_be_frozen_killed_and_started(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUEUE_RUNNER_TESTING", "containers")
    with start_server(name) as server, connect(server.url) as broker:
        broker.publish([Message(queue="jobs", body=b"kept")])
        server.pause()
        server.resume()
        server.kill()
        server.start()
        (held,) = broker.lease(["jobs"], 1, 60.0)
        assert held.body == b"kept"


KILLED = """
import os, signal
def test_killed(redis_url):
    from queue_runner.images.engine import open_engine
    from queue_runner.testing.servers import leftovers
    with open_engine() as client, open("mine", "w") as file:
        (label,) = [f"{name}={value}" for name, value in leftovers.labels().items()]
        (mine,) = client.containers.list(filters={"label": label})
        file.write(mine.id)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.containers
def test_what_a_killed_run_left_is_removed_by_the_next(user_pytest: Pytest, tmp_path: Path) -> None:
    done = user_pytest(KILLED, QUEUE_RUNNER_TESTING="containers")
    assert done.returncode == -signal.SIGKILL
    left = (tmp_path / "mine").read_text()
    user_pytest("def test_next(redis_url): ...", QUEUE_RUNNER_TESTING="containers")
    with open_engine() as client:
        eventually(
            lambda: (
                left
                not in {each.id for each in client.containers.list(all=True, ignore_removed=True)}
            )
        )
