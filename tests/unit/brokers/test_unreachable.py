"""What is said of a server that is not there: where, and what to look at next."""

from __future__ import annotations

import pytest

from queue_runner.brokers.registry import connect
from queue_runner.errors import BrokerUnavailable


@pytest.mark.parametrize("scheme", ["amqp", "redis", "zmq+tcp"])
def test_who_does_not_reach_a_server_is_asked_whether_it_runs_there(scheme: str) -> None:
    with connect(f"{scheme}://127.0.0.1:1") as broker, pytest.raises(BrokerUnavailable) as caught:
        broker.server(timeout_s=0.5)
    assert "127.0.0.1:1" in str(caught.value)
    assert "Is " in str(caught.value)
    assert " running " in str(caught.value)
