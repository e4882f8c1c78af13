"""Daemons that are stopped while they are still starting, or when their broker has gone before them."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from queue_runner.testing.handle import BrokerServerHandle
from tests.integration.system import System, eventually

pytestmark = pytest.mark.timeout(180)

DAEMONS = {
    "worker": ("worker", "--scratch", "scratch"),
    "collector": ("collector", "--listen", "127.0.0.1:0", "--database", "collector.sqlite"),
}
BROKERS = ("rabbitmq", "redis", "zeromq")
SCHEMES = ("amqp", "redis", "zmq+tcp")


@pytest.mark.parametrize("name", DAEMONS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_daemon_that_is_stopped_before_it_has_begun_ends_in_order(
    scheme: str, name: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        system = System(tmp_path, f"{scheme}://127.0.0.1:{silent.getsockname()[1]}")
        process = system.start(name, *DAEMONS[name])
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGTERM)
            assert process.wait(40) == 0, system.log(name)
    assert system.log(name) == ""
    assert not list((tmp_path / "scratch").glob("*"))


@pytest.mark.parametrize("name", DAEMONS)
def test_so_does_one_that_still_loads_its_modules(name: str, tmp_path: Path) -> None:
    system = System(tmp_path, "redis://127.0.0.1:1")
    # the first module of ours that is slow to load says so, and waits for the signal
    (tmp_path / "typer.py").write_text(
        "print('loading', flush=True)\nimport time\ntime.sleep(60)\n"
    )
    system.env["PYTHONPATH"] = str(tmp_path)
    process = system.start(name, *DAEMONS[name])
    eventually(lambda: "loading" in system.log(name))
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0, system.log(name)
    assert system.log(name) == "loading\n"


@pytest.mark.parametrize("how", ["killed", "frozen"])
@pytest.mark.parametrize("broker", BROKERS)
def test_so_do_those_whose_broker_has_gone(
    broker: str, how: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A supervisor kills what has not ended in time."""
    server: BrokerServerHandle = request.getfixturevalue(f"{broker}_server")
    system = System(tmp_path, server.url)
    try:
        system.start_collector()
        system.start_worker()
        eventually(lambda: system.json("status")["workers"])
        if how == "killed":
            server.kill()
        else:
            server.pause()
        for process in system.daemons.values():
            process.send_signal(signal.SIGTERM)
        for name, process in system.daemons.items():
            assert process.wait(15) == 0, system.log(name)
    finally:
        system.stop()
