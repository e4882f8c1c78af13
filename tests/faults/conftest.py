"""A broker server of each kind for the session, in a container, and a seed for when faults happen."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.faults.moments import SEED, VARIABLE, Moments
from tests.faults.rig import Rig, rig
from tests.faults.servers import SERVERS, FaultServer, fault_server, named


def pytest_report_header() -> str:
    return f"{VARIABLE}={SEED}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What failed may have failed for its server, or in a daemon; both are gone afterwards."""
    report = yield
    if report.failed:
        for each in item.funcargs.values():
            if isinstance(each, FaultServer):
                report.sections.append((f"{each.name} server", each.described()))
            elif isinstance(each, Rig):
                report.sections += each.logs().items()
    return report


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> Moments:
    return Moments(request.node.name)


@pytest.fixture(scope="session", params=named(*SERVERS))
def server(request: pytest.FixtureRequest) -> Iterator[FaultServer]:
    """Each of the three in turn; a test leaves it answering, with room for messages."""
    with fault_server(SERVERS[request.param]) as made:
        yield made


@pytest.fixture
def system(tmp_path: Path, server: FaultServer) -> Iterator[Rig]:
    """A system on an empty part of the server, with nothing started yet."""
    server.assert_answers()
    with rig(tmp_path, server, f"faults-{uuid.uuid4().hex[:8]}") as made:
        yield made
