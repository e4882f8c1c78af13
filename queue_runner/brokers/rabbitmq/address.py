"""What an `amqp(s)://` URL says."""

from __future__ import annotations

import difflib
import os
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import pika

from queue_runner.brokers.registry import redacted
from queue_runner.errors import BrokerRefused

#: Query parameters. Those of TLS are named as in https://www.rabbitmq.com/docs/uri-query-parameters.
_KNOWN = (
    "prefix",
    "heartbeat",
    "hold_s",
    "cacertfile",
    "certfile",
    "keyfile",
    "verify",
    "server_name_indication",
)

#: A connection attempt is given up after so many seconds, and made again.
_CONNECT_S = 10.0

#: A delivery held longer is handed to ourselves anew, see `holding.py`. A third of RabbitMQ's default
#: `consumer_timeout` of 30 minutes.
_HOLD_S = 600.0

_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,80}")


@dataclass(frozen=True, slots=True)
class Address:
    """`heartbeat_s` None: chosen from the lease times, see `Link.heed`."""

    shown: str
    parameters: pika.ConnectionParameters
    prefix: str
    heartbeat_s: int | None
    hold_s: float

    @property
    def where(self) -> str:
        return f"{self.parameters.host}:{self.parameters.port}"

    @property
    def encrypted(self) -> bool:
        return self.parameters.ssl_options is not None


def parse(url: str) -> Address:
    """Read a URL. Raises `ValueError` for a malformed one and `BrokerRefused` for unreadable TLS files.

    `amqp(s)://user:password@host:port/vhost?prefix=NAME&heartbeat=SECONDS&hold_s=SECONDS`, for TLS with
    `cacertfile`, `certfile`, `keyfile`, `verify=verify_none` and `server_name_indication`.
    """
    parts = urlsplit(url)
    query = _query(parts, redacted(url))
    tls = parts.scheme == "amqps"
    options = _tls(query, parts.hostname or "localhost", redacted(url)) if tls else None
    parameters = pika.ConnectionParameters(
        host=parts.hostname or "localhost",
        port=_port(parts, redacted(url)) or (5671 if tls else 5672),
        virtual_host=unquote(parts.path[1:]) or "/",
        credentials=pika.PlainCredentials(
            unquote(parts.username or "guest"), unquote(parts.password or "guest")
        ),
        ssl_options=options,
        connection_attempts=1,
        socket_timeout=_CONNECT_S,
        stack_timeout=_CONNECT_S,
        client_properties={"connection_name": f"queue-runner {socket.gethostname()}:{os.getpid()}"},
    )
    return Address(
        shown=redacted(url),
        parameters=parameters,
        prefix=_prefix(query, redacted(url)),
        heartbeat_s=_seconds(query, "heartbeat", redacted(url)),
        hold_s=_seconds(query, "hold_s", redacted(url)) or _HOLD_S,
    )


def _query(parts: SplitResult, shown: str) -> Mapping[str, str]:
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in query:
        if name not in _KNOWN:
            near = difflib.get_close_matches(name, _KNOWN, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(_KNOWN)}."
            raise ValueError(f"{shown}: unknown parameter {name!r}.{hint}")
    return query


def _port(parts: SplitResult, shown: str) -> int | None:
    try:
        return parts.port
    except ValueError as error:
        raise ValueError(f"{shown}: {error}") from error


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


def _tls(query: Mapping[str, str], host: str, shown: str) -> pika.SSLOptions:
    try:
        context = ssl.create_default_context(cafile=query.get("cacertfile"))
        if "certfile" in query:
            context.load_cert_chain(query["certfile"], query.get("keyfile"))
    except OSError as error:  # ssl.SSLError is one, too
        raise BrokerRefused(
            f"{shown}: cannot load the TLS files: {error}."
            " Check cacertfile, certfile and keyfile in the URL (PEM, readable by this user)."
        ) from error
    if query.get("verify", "verify_peer") == "verify_none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return pika.SSLOptions(context, query.get("server_name_indication", host))
