"""Where a connection cannot be opened: asking whether that is for want of TLS, or of a certificate."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import ConnectionError, TimeoutError

from queue_runner.brokers.redis.address import TLS_OPTIONS, Address
from queue_runner.brokers.tls import (
    answers_plainly,
    client_context,
    distrust,
    rejection,
    speaks_tls,
)
from queue_runner.errors import BrokerRefused

#: For an answer of a server that is there.
_ASK_S = 1.0

#: What a server or a Sentinel begins its answers with.
_ANSWERS = (b"+", b"-")


@contextmanager
def explaining_tls(address: Address, host: str, port: int, timeout_s: float) -> Iterator[None]:
    """Raises `BrokerRefused` where opening a connection fails inside, and TLS is why."""
    try:
        yield
    except (ConnectionError, TimeoutError) as error:
        # those below are answers, and a server that answers understands us
        if type(error) in (ConnectionError, TimeoutError):
            _raise_for_tls(address, host, port, min(timeout_s, _ASK_S), error)
        raise


def _raise_for_tls(
    address: Address, host: str, port: int, timeout_s: float, error: Exception
) -> None:
    if isinstance(error.__context__, ConnectionRefusedError | socket.gaierror):
        return
    if address.tls is not None:
        why = _secured(address, address.tls, host, port, timeout_s, error)
    else:
        why = _plain(host, port, timeout_s, error)
    if why is not None:
        raise BrokerRefused(f"{address.text}: {why}") from error


def _plain(host: str, port: int, timeout_s: float, error: Exception) -> str | None:
    # a server that wants TLS hangs up at once, it does not wait
    if isinstance(error, TimeoutError) or not speaks_tls(host, port, timeout_s):
        return None
    return f"{host}:{port} speaks TLS only: write rediss instead of redis in the URL"


def _secured(
    address: Address,
    files: dict[str, str],
    host: str,
    port: int,
    timeout_s: float,
    error: Exception,
) -> str | None:
    if distrust(error):
        return (
            f"the server's certificate is not trusted: {error}. Name the file of the authority that"
            " signed it, ?ssl_ca_certs=/path/to/ca.pem, and use a host name that stands in it"
        )
    if answers_plainly(host, port, b"PING\r\n", timeout_s).startswith(_ANSWERS):
        return (
            f"{host}:{port} does not speak TLS: write redis instead of rediss in the URL if that is"
            " meant to be so"
        )
    context = client_context(address.text, files, TLS_OPTIONS)
    said = rejection(host, port, context, host, timeout_s)
    if said is None:
        return None
    return (
        f"the server does not accept this client's certificate, or its lack of one; it said: {said}."
        " Name one that its authority has signed: ?ssl_certfile=own.pem&ssl_keyfile=own.key"
    )
