"""What an `amqp(s)://` URL says."""

from __future__ import annotations

import difflib
import os
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote

import pika

from queue_runner.brokers.hosts import split_hosts
from queue_runner.brokers.registry import redacted
from queue_runner.brokers.tls import client_context

#: The authority that is trusted, the client's own certificate, its key.
TLS_FILES = ("cacertfile", "certfile", "keyfile")

#: Query parameters. Those of TLS are named as in https://www.rabbitmq.com/docs/uri-query-parameters.
_TLS = (*TLS_FILES, "verify", "server_name_indication")
_KNOWN = ("prefix", "heartbeat", "hold_s", *_TLS)

#: A connection attempt is given up after so many seconds, and made again.
_CONNECT_S = 10.0

#: A delivery held longer is handed to ourselves anew, see `holding.py`. A third of RabbitMQ's default
#: `consumer_timeout` of 30 minutes.
_HOLD_S = 600.0

_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,80}")


@dataclass(frozen=True, slots=True)
class Address:
    """`nodes`: how to reach each server of the cluster, or the only one.

    `heartbeat_s` None: chosen from the lease times, see `Link.heed`.
    """

    shown: str
    nodes: tuple[pika.ConnectionParameters, ...]
    prefix: str
    heartbeat_s: int | None
    hold_s: float

    @property
    def where(self) -> str:
        return ",".join(f"{node.host}:{node.port}" for node in self.nodes)

    @property
    def encrypted(self) -> bool:
        return all(node.ssl_options is not None for node in self.nodes)


def parse(url: str) -> Address:
    """Read a URL. Raises `ValueError` for a malformed one and `BrokerRefused` for unreadable TLS files.

    `amqp(s)://user:password@host:port,host2,.../vhost?prefix=NAME&heartbeat=SECONDS&hold_s=SECONDS`, for
    TLS with `cacertfile`, `certfile`, `keyfile`, `verify=verify_none` and `server_name_indication`.
    """
    shown = redacted(url)
    tls = url.startswith("amqps:")
    parts, hosts = split_hosts(url, 5671 if tls else 5672)
    query = _query(parts, shown)
    if not tls and any(name in query for name in _TLS):
        raise ValueError(f"{shown}: certificates are for TLS; write amqps instead of amqp")
    context = _context(query, shown) if tls else None
    return Address(
        shown=shown,
        nodes=tuple(
            _node(host or "localhost", port, parts, _tls(context, query, host or "localhost"))
            for host, port in hosts
        ),
        prefix=_prefix(query, shown),
        heartbeat_s=_seconds(query, "heartbeat", shown),
        hold_s=_seconds(query, "hold_s", shown) or _HOLD_S,
    )


def _node(
    host: str, port: int, parts: SplitResult, tls: pika.SSLOptions | None
) -> pika.ConnectionParameters:
    return pika.ConnectionParameters(
        host=host,
        port=port,
        virtual_host=unquote(parts.path[1:]) or "/",
        credentials=pika.PlainCredentials(
            unquote(parts.username or "guest"), unquote(parts.password or "guest")
        ),
        ssl_options=tls,
        connection_attempts=1,
        socket_timeout=_CONNECT_S,
        stack_timeout=_CONNECT_S,
        client_properties={"connection_name": f"queue-runner {socket.gethostname()}:{os.getpid()}"},
    )


def _query(parts: SplitResult, shown: str) -> Mapping[str, str]:
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in query:
        if name not in _KNOWN:
            near = difflib.get_close_matches(name, _KNOWN, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(_KNOWN)}."
            raise ValueError(f"{shown}: unknown parameter {name!r}.{hint}")
    return query


def _prefix(query: Mapping[str, str], shown: str) -> str:
    prefix = query.get("prefix", "queue-runner")
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(
            f"{shown}: prefix {prefix!r} is not 1 to 80 characters out of A-Za-z0-9._-"
        )
    return prefix


def _seconds(query: Mapping[str, str], name: str, shown: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ValueError(
            f"{shown}: {name}={text!r} is not a whole number of seconds from 1 to 65535"
        )
    return int(text)


def _context(query: Mapping[str, str], shown: str) -> ssl.SSLContext:
    context = client_context(shown, query, TLS_FILES)
    verify = query.get("verify", "verify_peer")
    if verify not in ("verify_peer", "verify_none"):
        raise ValueError(f"{shown}: verify={verify!r} is neither verify_peer nor verify_none")
    if verify == "verify_none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _tls(
    context: ssl.SSLContext | None, query: Mapping[str, str], host: str
) -> pika.SSLOptions | None:
    if context is None:
        return None
    return pika.SSLOptions(context, query.get("server_name_indication", host))
