from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from queue_runner.testing.contract import BrokerContract, BrokerRestartContract

if TYPE_CHECKING:
    from queue_runner.testing.handle import BrokerServerHandle


class TestRedis(BrokerContract):
    @pytest.fixture
    def broker_url(self, redis_url: str) -> str:
        return redis_url


class TestRedisRestart(BrokerRestartContract):
    @pytest.fixture
    def broker_url(self, redis_server: BrokerServerHandle) -> str:
        return redis_server.url

    @pytest.fixture
    def restart_server(self, redis_server: BrokerServerHandle) -> Callable[[], None]:
        return redis_server.restart
