"""Find the adapter for a URL, through the entry points of the group `queue_runner.brokers`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from importlib.metadata import entry_points
from urllib.parse import urlsplit

from queue_runner.brokers.base import Broker
from queue_runner.errors import MalformedUrl, UnknownScheme

GROUP = "queue_runner.brokers"


def connect(url: str) -> Broker:
    """Make the adapter that `url` names.

    `amqp(s)://user:password@host1:5672,host2/vhost`, `redis(s)://host:6379/0`,
    `redis(s)+sentinel://sentinel1:26379,sentinel2/service/0`, `zmq+tcp://host:5670`,
    `zmq+ipc:///path/to/socket`; an adapter from another package brings its own scheme. Every adapter
    takes `?prefix=NAME`, which keeps its queues apart from those of others on the same server.

    An entry point is a callable that takes the URL, and raises `ValueError` for a malformed one. Raises
    `UnknownScheme`, `BrokerRefused`, `MalformedUrl`.
    """
    make = adapter(url)
    try:
        return make(url)
    except ValueError as error:
        shown = redacted(url)
        text = str(error) if shown in str(error) else f"{shown}: {error}"
        raise MalformedUrl(text) from error


def adapter(url: str) -> Callable[[str], Broker]:
    scheme = urlsplit(url).scheme
    found = {point.name: point for point in entry_points(group=GROUP)}
    if scheme not in found:
        near = difflib.get_close_matches(scheme, found, n=1)
        hint = f" Did you mean {near[0]}://?" if near else ""
        raise UnknownScheme(
            f"no broker adapter for {scheme!r} in {redacted(url)!r};"
            f" installed: {', '.join(sorted(found)) or 'none'}.{hint}"
        )
    try:
        loaded: Callable[[str], Broker] = found[scheme].load()
    except ImportError as error:
        raise UnknownScheme(
            f"the broker adapter for {scheme!r} ({found[scheme].value}) cannot be imported: {error}"
        ) from error
    return loaded


def redacted(url: str) -> str:
    """The URL without its password, for messages and logs.

    Masks up to the last `@`, so that a password with an unescaped `/` or `@` does not show either.
    """
    return re.sub(r"//([^:@/]*):.*@", r"//\1:***@", url)
