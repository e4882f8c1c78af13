from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from queue_runner.testing.contract import BrokerContract, BrokerRestartContract
from queue_runner.testing.plugin import throwaway

if TYPE_CHECKING:
    from queue_runner.testing.handle import BrokerServerHandle


class TestRabbitMQ(BrokerContract):
    @pytest.fixture
    def broker_url(self, rabbitmq_url: str) -> str:
        return rabbitmq_url


@pytest.mark.xdist_group("rabbitmq restart")
class TestRabbitMQRestart(BrokerRestartContract):
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[BrokerServerHandle]:
        """One for all of them: each start takes seconds of a CPU."""
        with throwaway("rabbitmq") as server:
            yield server

    @pytest.fixture
    def broker_url(self, server: BrokerServerHandle) -> str:
        return f"{server.url}?prefix=test-{uuid.uuid4().hex[:12]}"

    @pytest.fixture
    def restart_server(self, server: BrokerServerHandle) -> Callable[[], None]:
        return server.restart
