"""URLs that name several hosts: `scheme://user:password@host1:port,host2,host3/path?query`."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from queue_runner.brokers.registry import redacted

_URL = re.compile(
    r"(?P<head>[^:/?#]+://(?:[^/?#]*@)?)(?P<hosts>[^/?#@]*)(?P<tail>[/?#].*)?", re.DOTALL
)

_ESCAPES = "write / as %2F, ? as %3F, # as %23 and @ as %40 in user and password"


def split_hosts(url: str, default_port: int) -> tuple[SplitResult, tuple[tuple[str, int], ...]]:
    """The URL without its hosts, and each of these (empty where left out) with its port.

    Raises `ValueError`.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(
            f"{redacted(url)}: expected scheme://host:port/..., several hosts with commas"
        )
    head, tail, shown = found["head"], found["tail"] or "", redacted(url)
    # then what stands where host and port should be may be the beginning of a password
    unescaped = "@" not in head and "@" in tail
    try:
        if unescaped and "@" in tail.partition("?")[0]:
            raise ValueError("@ behind the hosts")
        hosts = tuple(_host(one, default_port, shown) for one in found["hosts"].split(","))
    except ValueError as error:
        if unescaped:
            raise ValueError(f"{shown}: {_ESCAPES}") from None
        raise error
    return urlsplit(head + tail), hosts


def _host(text: str, default_port: int, shown: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        return parts.hostname or "", parts.port or default_port
    except ValueError as error:
        raise ValueError(f"{shown}: host {text!r}: {error}") from error
