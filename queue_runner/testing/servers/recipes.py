"""How each kind of broker server is run on this machine, with all it writes in one folder."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from queue_runner.errors import MissingTool
from queue_runner.testing.servers.ports import free_port

_HERE = Path(__file__).parent
#: Debian keeps there what any user may run; the scripts on its PATH want root.
_RABBITMQ_BIN = "/usr/lib/rabbitmq/bin"


@dataclass(frozen=True, slots=True)
class Launch:
    """`helpers` start before `server` and outlive its restarts."""

    url: str
    server: Sequence[str]
    helpers: Sequence[Sequence[str]] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def redis(folder: Path) -> Launch:
    port = free_port()
    conf = str(_HERE / "redis" / "redis.conf")
    where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    server = [program("redis-server", "redis-server"), conf, *where]
    return Launch(f"redis://127.0.0.1:{port}/0", server)


def zeromq(folder: Path) -> Launch:
    address = f"tcp://127.0.0.1:{free_port()}"
    server = [sys.executable, "-m", "queue_runner.brokers.zeromq", "--bind", address]
    return Launch(f"zmq+{address}", [*server, "--journal", str(folder / "journal.db")])


def rabbitmq(folder: Path) -> Launch:
    """With a name server for Erlang of its own (epmd), else that would stay behind as a daemon."""
    server = program("rabbitmq-server", "rabbitmq-server", _RABBITMQ_BIN)
    clients, nodes, names = (free_port() for _ in range(3))
    (folder / "enabled_plugins").write_text("[].\n")
    (folder / "rabbitmq.conf").write_text(f"listeners.tcp.local = 127.0.0.1:{clients}\n")
    env = {
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"throwaway{clients}@localhost",
        "RABBITMQ_NODE_PORT": str(clients),
        "RABBITMQ_DIST_PORT": str(nodes),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
    }
    epmd = [program("epmd", "erlang-base"), "-port", str(names), "-address", "127.0.0.1"]
    return Launch(f"amqp://guest:guest@127.0.0.1:{clients}/", [server], [epmd], env)


RECIPES: Mapping[str, Callable[[Path], Launch]] = {
    "rabbitmq": rabbitmq,
    "redis": redis,
    "zeromq": zeromq,
}


def program(name: str, package: str, *folders: str) -> str:
    """Its path, in `folders` or on PATH; raises `MissingTool` naming Debian's package."""
    path = os.pathsep.join([*folders, os.environ.get("PATH", ""), "/usr/sbin"])
    if found := shutil.which(name, path=path):
        return found
    raise MissingTool(f"no {name} on PATH (on Debian or Ubuntu: apt-get install {package})")
