"""Broker servers that are restarted, killed, cut off or full in the midst of a sweep."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_runner.brokers import connect
from queue_runner.brokers.base import Message
from queue_runner.cli.app import EXIT_UNREACHABLE
from queue_runner.errors import BrokerUnavailable
from tests.faults.moments import Moments
from tests.faults.rig import LEASE_S, Rig, rig, start_sweeps
from tests.faults.servers import SERVERS, FaultServer, SmallZeroMQ, fault_server, named
from tests.faults.sweep import write_sweep
from tests.faults.verdict import Expected

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

#: Twice the shortest heartbeat that the adapter for RabbitMQ asks for, three leases, and some.
CUT_S = 13.0


def test_nothing_is_lost_when_the_server_is_restarted_and_killed(
    system: Rig, moments: Moments
) -> None:
    sweeps = start_sweeps(system)
    ends = [system.server.stop, system.server.kill, system.server.kill]
    moments.random.shuffle(ends)
    for number in moments.during(sweeps, len(ends)):
        ends[number]()
        system.server.start()
    system.judge(*sweeps, expected=Expected(lost=len(ends)))


def test_nothing_is_lost_when_the_network_is_cut(system: Rig, moments: Moments) -> None:
    sweeps = start_sweeps(system)
    lengths = [1.0, CUT_S]
    moments.random.shuffle(lengths)
    for number in moments.during(sweeps, len(lengths)):
        system.server.cut()
        # the length is the fault, so there is nothing to await
        time.sleep(lengths[number])
        system.server.mend()
    system.judge(*sweeps, expected=Expected(lost=len(lengths)))


@pytest.fixture(params=named(*SERVERS))
def fillable(request: pytest.FixtureRequest) -> Iterator[FaultServer]:
    """A server that can run out of memory or disk."""
    kinds: dict[str, type[FaultServer]] = {**SERVERS, "zeromq": SmallZeroMQ}
    with fault_server(kinds[request.param]) as made:
        yield made


def test_a_full_server_drops_nothing_and_says_why_it_takes_nothing(
    fillable: FaultServer, tmp_path: Path, moments: Moments
) -> None:
    with rig(tmp_path, fillable, f"faults-{uuid.uuid4().hex[:8]}") as system:
        sweeps = start_sweeps(system)
        late = write_sweep(system.folder, "late", 20, "command", 0.05, 0.1)
        for _ in moments.during(sweeps, 1):
            system.server.fill()
            with connect(system.url) as broker, pytest.raises(BrokerUnavailable) as refused:
                broker.publish([Message("elsewhere", bytes(100_000))] * 10, timeout_s=5)
            # for longer than a lease; meanwhile somebody submits a study
            submitting = system.popen("submit", str(late.folder / "study/study.yaml"))
            time.sleep(2 * LEASE_S)
            assert submitting.poll() in (None, EXIT_UNREACHABLE)
            system.server.make_room()
        assert re.search("memory|disk|full", str(refused.value))
        if submitting.wait(120) != 0:
            assert re.search("memory|disk|full", system.log("output"))
        with connect(system.url) as broker:
            # what its sender was told to be uncertain of
            broker.purge("elsewhere")
        system.judge(*sweeps, system.hand_over(late), expected=Expected(lost=2))
