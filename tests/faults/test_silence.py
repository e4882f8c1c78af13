"""A ZeroMQ server and its clients when the other side is gone without a word: both close what they had."""

from __future__ import annotations

import psutil
import pytest

from queue_runner.brokers import connect
from tests.faults.servers import FaultServer, ZeroMQ, fault_server
from tests.integration.system import eventually

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("zeromq"),
]

#: What the kernel counts, in the container. 01: https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html
_COUNT = "print(sum(line.split()[3] == '01' for line in open('/proc/net/tcp')))"


def ours(server: FaultServer) -> int:
    """Connections of this process to a server that it takes for alive."""
    host = server.address.partition(":")[0]
    return sum(
        each.status == psutil.CONN_ESTABLISHED and bool(each.raddr) and each.raddr.ip == host
        for each in psutil.Process().net_connections("tcp")
    )


def theirs(server: FaultServer) -> int:
    return int(server.call("python3", "-c", _COUNT))


def test_both_sides_notice_it_where_nothing_is_said_and_come_together_again() -> None:
    with (
        fault_server(ZeroMQ) as server,
        connect(server.url) as broker,
        broker.subscribe(["news"]) as subscription,
    ):
        broker.server()
        had = ours(server)
        assert had >= 2
        eventually(lambda: theirs(server) == had)
        server.cut()
        eventually(lambda: not ours(server))
        eventually(lambda: not theirs(server))
        server.mend()
        eventually(lambda: broker.broadcast("news", b"back") or subscription.get(1.0))
