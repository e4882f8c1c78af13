"""No server, and no connection any more: our errors, in time."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from queue_runner.brokers import Broker, connect
from queue_runner.errors import BrokerUnavailable
from queue_runner.testing.contract.bench import (
    PATIENCE_S,
    QUEUE,
    Bench,
    in_thread,
    lease_one,
    message,
    take,
)

_DEADLINE_S = 0.5
_CALLS: dict[str, Callable[[Broker], object]] = {
    "publish": lambda b: b.publish([message("x")], timeout_s=_DEADLINE_S),
    "lease": lambda b: b.lease([QUEUE], 1, 0.1, timeout_s=_DEADLINE_S),
    "settle": lambda b: b.settle(publish=[message("x")], timeout_s=_DEADLINE_S),
    "broadcast": lambda b: b.broadcast("a", b"", timeout_s=_DEADLINE_S),
    "subscribe": lambda b: b.subscribe(["a"], timeout_s=_DEADLINE_S),
    "depth": lambda b: b.depth(QUEUE, timeout_s=_DEADLINE_S),
    "dead_letters": lambda b: b.dead_letters(QUEUE, timeout_s=_DEADLINE_S),
    "replay": lambda b: b.replay(QUEUE, timeout_s=_DEADLINE_S),
    "purge": lambda b: b.purge(QUEUE, timeout_s=_DEADLINE_S),
    "server": lambda b: b.server(timeout_s=_DEADLINE_S),
}
#: Those that daemons wait in, for as long as it takes.
_PATIENT: dict[str, Callable[[Broker], object]] = {
    "publish": lambda b: b.publish([message("x")], timeout_s=120.0),
    "lease": lambda b: b.lease([QUEUE], 1, 0.1, timeout_s=120.0),
    "subscribe": lambda b: b.subscribe(["a"], timeout_s=120.0),
}
each_call = pytest.mark.parametrize("call", _CALLS.values(), ids=_CALLS.keys())


def _at(url: str, port: int) -> str:
    """The same URL with another port, at each of its hosts; one without leads to a path that is not there."""
    moved, count = re.subn(r":\d+(?=[,/?]|$)", f":{port}", url)
    return moved if count else re.sub(r"(\?|$)", r".nobody\1", url, count=1)


class FailureContract(Bench):
    @pytest.fixture
    def absent_url(self, broker_url: str) -> str:
        """Where nobody listens."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            return _at(broker_url, taken.getsockname()[1])

    @pytest.fixture
    def silent_url(self, broker_url: str) -> Iterator[str]:
        """Where somebody listens and never answers."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            yield _at(broker_url, silent.getsockname()[1])

    @each_call
    def test_nobody_listens(self, absent_url: str, call: Callable[[Broker], object]) -> None:
        _assert_unavailable(absent_url, call)

    @each_call
    def test_nobody_answers(self, silent_url: str, call: Callable[[Broker], object]) -> None:
        _assert_unavailable(silent_url, call)

    @each_call
    def test_after_close(
        self, open_broker: Callable[[], Broker], call: Callable[[Broker], object]
    ) -> None:
        broker = open_broker()
        broker.publish([])
        broker.close()
        with pytest.raises(BrokerUnavailable):
            call(broker)

    def test_receipts_after_close(self, broker: Broker, open_broker: Callable[[], Broker]) -> None:
        broker.publish([message("one")])
        leaver = open_broker()
        held = lease_one(leaver, lease_s=1.0)
        leaver.close()
        with pytest.raises(BrokerUnavailable):
            leaver.renew([held])
        with pytest.raises(BrokerUnavailable):
            leaver.settle(done=[held])
        assert take(broker, 1)[0].attempt == 2

    def test_closing_twice(self, open_broker: Callable[[], Broker]) -> None:
        broker = open_broker()
        broker.publish([message("x", queue="elsewhere")])
        broker.close()
        broker.close()

    def test_closing_ends_a_waiting_lease(self, open_broker: Callable[[], Broker]) -> None:
        broker = open_broker()
        broker.depth(QUEUE)
        waiting = in_thread(lambda: broker.lease([QUEUE], 1, 120.0))
        time.sleep(0.3)  # see `waiting._wait`
        broker.close()
        with pytest.raises(BrokerUnavailable):
            waiting.result(PATIENCE_S)

    @pytest.mark.parametrize("where", ["absent", "silent"])
    @pytest.mark.parametrize("call", _PATIENT.values(), ids=_PATIENT.keys())
    def test_closing_ends_what_waits_for_a_server(
        self, request: pytest.FixtureRequest, where: str, call: Callable[[Broker], object]
    ) -> None:
        broker = connect(request.getfixturevalue(f"{where}_url"))
        waiting = in_thread(lambda: call(broker))
        time.sleep(0.3)  # see `waiting._wait`
        broker.close()
        with pytest.raises(BrokerUnavailable):
            waiting.result(_DEADLINE_S + PATIENCE_S / 3)


def _assert_unavailable(url: str, call: Callable[[Broker], object]) -> None:
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable) as caught, connect(url) as broker:
        call(broker)
    assert time.monotonic() - started < PATIENCE_S / 3
    assert len(str(caught.value)) > 20
