"""What the ZeroMQ server makes of the requests of one turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_runner.brokers.zeromq.protocol import pack_request
from queue_runner.brokers.zeromq.server import BrokerServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BrokerServer]:
    server = BrokerServer(["zmq+tcp://127.0.0.1:0"], tmp_path / "journal.sqlite")
    yield server
    server._close()


def _publish(*bodies: bytes) -> bytes:
    return pack_request("publish", [["x:q", 1, 0, 0.0, 1, list(bodies)]])


def test_a_request_that_comes_twice_at_once_is_executed_once(server: BrokerServer) -> None:
    server._turn([[b"client", b"1", _publish(b"a", b"b")]] * 2)
    assert server._state.depth("x:q") == [2, 0, 0, 0]


def test_one_that_comes_again_over_another_connection_is_executed_once(
    server: BrokerServer,
) -> None:
    for connection in (b"before", b"after"):
        server._turn([[connection, b"1", _publish(b"a")]])
    assert server._state.depth("x:q") == [1, 0, 0, 0]


def test_what_was_leased_to_thousands_that_have_gone_is_for_the_next(server: BrokerServer) -> None:
    waiting = pack_request("lease", ["x:q"], 1, 60.0, 60.0, None, None)
    server._turn([[b"gone", b"%d" % number, waiting] for number in range(2000)])
    server._turn([[b"other", b"x", _publish(b"a")]])
    assert server._state.depth("x:q") == [1, 0, 0, 0]
    (leased,) = server._state.lease(["x:q"], 1, 60.0, None, None)
    assert leased[-2:] == [(1,), (b"a",)]
