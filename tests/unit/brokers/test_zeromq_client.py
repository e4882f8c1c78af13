"""What the ZeroMQ client does without any server."""

from __future__ import annotations

import threading

import pytest

from queue_runner.brokers.zeromq.client import Connection
from queue_runner.errors import BrokerUnavailable

NOWHERE = "tcp://127.0.0.1:1"


def test_who_waits_for_a_subscription_hears_of_the_closing_at_once() -> None:
    connection = Connection(NOWHERE)
    errors: list[BaseException] = []

    def listen() -> None:
        try:
            connection.subscribe(frozenset({"t"}), 600.0)
        except BrokerUnavailable as error:
            errors.append(error)

    listening = threading.Thread(target=listen)
    listening.start()
    connection.close()
    listening.join(30.0)
    assert [str(error) for error in errors] == [f"zmq+{NOWHERE}: this connection was closed"]


def test_a_call_that_meets_the_closing_ends_at_once() -> None:
    connection = Connection(NOWHERE)
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            connection.call(600.0, "depth", "jobs")
        except BrokerUnavailable as error:
            errors.append(error)

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    connection.close()
    for thread in asking:
        thread.join(30.0)
    assert [str(error) for error in errors] == [f"zmq+{NOWHERE}: this connection was closed"] * 4


def test_a_call_after_the_closing_is_refused() -> None:
    connection = Connection(NOWHERE)
    connection.close()
    connection.close()
    with pytest.raises(BrokerUnavailable, match="was closed"):
        connection.call(600.0, "depth", "jobs")
