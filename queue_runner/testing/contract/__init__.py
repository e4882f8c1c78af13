"""What every broker adapter promises, as tests: `queue_runner.brokers.base` put to the proof.

An adapter's own test module has this much of it, with a fixture that gives each test the URL of an
empty namespace (`queue_runner.testing` has one for each server of ours):

    class TestMine(BrokerContract):
        @pytest.fixture
        def broker_url(self, mine_url): return mine_url

`BrokerRestartContract` needs a fixture `restart_server` too: a callable that restarts the server behind
`broker_url` and returns when it answers again. In conftest.py, for readable failures:
`pytest.register_assert_rewrite("queue_runner.testing.contract")`.
"""

from queue_runner.testing.contract.broadcasting import BroadcastContract
from queue_runner.testing.contract.burying import DeadLetterContract
from queue_runner.testing.contract.claiming import ClaimContract
from queue_runner.testing.contract.failing import FailureContract
from queue_runner.testing.contract.ordering import OrderContract
from queue_runner.testing.contract.publishing import PublishContract
from queue_runner.testing.contract.restarting import RestartContract
from queue_runner.testing.contract.settling import SettleContract
from queue_runner.testing.contract.waiting import WaitContract

__all__ = ["BrokerContract", "BrokerRestartContract"]


class BrokerContract(
    PublishContract,
    ClaimContract,
    SettleContract,
    OrderContract,
    WaitContract,
    DeadLetterContract,
    BroadcastContract,
    FailureContract,
):
    """Every promise that can be tried without touching the server."""


class BrokerRestartContract(RestartContract):
    """Promises about a server that goes away and comes back."""
