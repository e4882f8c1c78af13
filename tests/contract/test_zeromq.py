from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from queue_runner.testing.contract import BrokerContract, BrokerRestartContract

if TYPE_CHECKING:
    from queue_runner.testing.handle import BrokerServerHandle


class TestZeroMQ(BrokerContract):
    @pytest.fixture
    def broker_url(self, zeromq_url: str) -> str:
        return zeromq_url


class TestZeroMQRestart(BrokerRestartContract):
    @pytest.fixture
    def broker_url(self, zeromq_server: BrokerServerHandle) -> str:
        return zeromq_server.url

    @pytest.fixture
    def restart_server(self, zeromq_server: BrokerServerHandle) -> Callable[[], None]:
        return zeromq_server.restart
