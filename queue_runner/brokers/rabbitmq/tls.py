"""Whether a server that hung up on us did so for want of TLS, or of a certificate that it knows."""

from __future__ import annotations

import pika

from queue_runner.brokers.tls import rejection, speaks_tls
from queue_runner.errors import BrokerRefused

#: For an answer of a server that is there.
_ASK_S = 3.0


def refused_for_tls(node: pika.ConnectionParameters) -> BrokerRefused | None:
    """The error to raise at once where it did; None where it went away for another reason. Blocks."""
    tls = node.ssl_options
    if tls is None:
        if not speaks_tls(node.host, node.port, _ASK_S):
            return None
        return BrokerRefused("that port speaks TLS only: write amqps:// instead of amqp://")
    said = rejection(node.host, node.port, tls.context, tls.server_hostname, _ASK_S)
    if said is None:
        return None
    return BrokerRefused(
        f"the server does not accept this client's certificate, or its lack of one; it said: {said}."
        " Name one that its authority has signed in the URL: ?certfile=own.pem&keyfile=own.key"
    )
