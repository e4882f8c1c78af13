"""A process that ends although the system's resolver does not say where its broker is."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: The names of servers in containers are gone with them, and who asks for one waits.
PROGRAM = """
import socket, sys, threading
from queue_runner.brokers.leaving import leave
from queue_runner.brokers.registry import connect
from queue_runner.errors import BrokerUnavailable

asked = threading.Event()
def getaddrinfo(*_, **__):
    asked.set()
    threading.Event().wait()
socket.getaddrinfo = getaddrinfo

with connect(sys.argv[1]) as broker:
    def work():
        try:
            getattr(broker, sys.argv[2])(["jobs"], *map(float, sys.argv[3:]))
        except BrokerUnavailable:
            print("told")
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    asked.wait()
    leave(broker, [thread], 0.1)
print("left")
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("call", [("lease", "1", "30"), ("subscribe",)], ids=["lease", "subscribe"])
@pytest.mark.parametrize(
    ("url", "said"), [("redis://gone", "left\n"), ("amqp://gone", "told\nleft\n")]
)
def test_a_server_whose_name_is_not_answered_holds_no_process(
    url: str, said: str, call: tuple[str, ...]
) -> None:
    command = [sys.executable, "-c", PROGRAM, url, *call]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (said, "", 0)
