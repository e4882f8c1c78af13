"""Throwaway servers, with the same durability for all who are measured on them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from queue_runner.brokers import connect
from queue_runner.testing.servers import VARIABLE, start_server

_PROGRAMS = ("redis-server", "rabbitmq-server")
#: `name: product and version` of the servers that were started.
VERSIONS: dict[str, str] = {}


def prefer_programs() -> None:
    """A container's port is reached through the engine's proxy, which costs the cores that are measured."""
    if VARIABLE not in os.environ and all(_installed(name) for name in _PROGRAMS):
        os.environ[VARIABLE] = "programs"


def _installed(name: str) -> bool:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is not None


@contextmanager
def servers(names: Sequence[str]) -> Iterator[dict[str, str]]:
    """New and empty ones; their URLs by name."""
    with ExitStack() as stack:
        urls: dict[str, str] = {}
        for name in names:
            urls[name] = stack.enter_context(start_server(name)).url
            with connect(urls[name]) as broker:
                told = broker.server()
            VERSIONS[name] = f"{told.product} {told.version}"
        if "redis" in urls:
            _flush_every_second(urls["redis"])
        yield urls


@contextmanager
def server(name: str) -> Iterator[str | None]:
    """The URL of a server for this measurement alone, or of yours, as it is; None for a ZeroMQ server, which
    has yet to be started.
    """
    if name in ("redis", "rabbitmq"):
        with servers([name]) as urls:
            yield urls[name]
    else:
        yield None if name == "zmq" else name


def _flush_every_second(url: str) -> None:
    """What peers' users have at most; our own setting, `always`, costs more for each message alone."""
    import redis

    with redis.Redis.from_url(url) as client:
        client.config_set("appendfsync", "everysec")


def way() -> str:
    """How servers are run, in words."""
    return os.environ.get(VARIABLE) or "containers where there is an engine"
