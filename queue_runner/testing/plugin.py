"""The pytest plug-in: throwaway brokers as fixtures.

It is loaded in every pytest run of everyone who installed queue-runner, so it imports nothing but pytest
until a fixture is asked for. Where a server cannot be run, tests that want it are skipped; with
`QUEUE_RUNNER_TESTS_REQUIRE=all` they fail.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from queue_runner.testing.handle import BrokerServerHandle

BROKERS = ("rabbitmq", "redis", "zeromq")


@contextmanager
def throwaway(name: str) -> Iterator[BrokerServerHandle]:
    """For fixtures of another scope than those below: a server, or the test is skipped or fails."""
    from queue_runner.errors import MissingTool
    from queue_runner.testing.servers import start_server

    try:
        with start_server(name) as server:
            yield server
    except MissingTool as error:
        if os.environ.get("QUEUE_RUNNER_TESTS_REQUIRE") == "all":
            raise
        pytest.skip(f"no throwaway {name}: {error}")


def _namespace(server: BrokerServerHandle) -> str:
    return f"{server.url}?prefix=test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def _rabbitmq_session() -> Iterator[BrokerServerHandle]:
    with throwaway("rabbitmq") as server:
        yield server


@pytest.fixture(scope="session")
def _redis_session() -> Iterator[BrokerServerHandle]:
    with throwaway("redis") as server:
        yield server


@pytest.fixture(scope="session")
def _zeromq_session() -> Iterator[BrokerServerHandle]:
    with throwaway("zeromq") as server:
        yield server


@pytest.fixture
def rabbitmq_url(_rabbitmq_session: BrokerServerHandle) -> str:
    """An empty part of the session's RabbitMQ."""
    return _namespace(_rabbitmq_session)


@pytest.fixture
def redis_url(_redis_session: BrokerServerHandle) -> str:
    """An empty part of the session's Redis."""
    return _namespace(_redis_session)


@pytest.fixture
def zeromq_url(_zeromq_session: BrokerServerHandle) -> str:
    """An empty part of the session's ZeroMQ server."""
    return _namespace(_zeromq_session)


@pytest.fixture(params=BROKERS)
def broker_url(request: pytest.FixtureRequest) -> str:
    """Each of the three in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def rabbitmq_server() -> Iterator[BrokerServerHandle]:
    """A RabbitMQ of this test's own, to be stopped, killed, frozen and started again."""
    with throwaway("rabbitmq") as server:
        yield server


@pytest.fixture
def redis_server() -> Iterator[BrokerServerHandle]:
    """A Redis of this test's own."""
    with throwaway("redis") as server:
        yield server


@pytest.fixture
def zeromq_server() -> Iterator[BrokerServerHandle]:
    """A ZeroMQ server of this test's own."""
    with throwaway("zeromq") as server:
        yield server
