from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from queue_runner.testing.contract import BrokerContract, BrokerRestartContract

if TYPE_CHECKING:
    from queue_runner.testing.handle import BrokerServerHandle


class TestRabbitMQ(BrokerContract):
    @pytest.fixture
    def broker_url(self, rabbitmq_url: str) -> str:
        return rabbitmq_url


class TestRabbitMQRestart(BrokerRestartContract):
    @pytest.fixture
    def broker_url(self, rabbitmq_server: BrokerServerHandle) -> str:
        return rabbitmq_server.url

    @pytest.fixture
    def restart_server(self, rabbitmq_server: BrokerServerHandle) -> Callable[[], None]:
        return rabbitmq_server.restart
