"""What an operator should know of a RabbitMQ server."""

from __future__ import annotations

from typing import Any

from queue_runner.brokers.base import ServerInfo
from queue_runner.brokers.rabbitmq.address import Address
from queue_runner.brokers.rabbitmq.link import version_of

_LOCAL = ("localhost", "127.0.0.1", "::1")


def describe(server: Any, address: Address) -> ServerInfo:
    """From the properties that the server sent when we connected."""
    product = str(server.get("product", "an AMQP server"))
    warnings = [_consumer_timeout(version_of(server), address.hold_s)]
    if product != "RabbitMQ":
        warnings.append(
            f"{product} is not RabbitMQ: quorum queues, streams and at-least-once dead-lettering are"
            " needed, and nothing else has been tested. Run the contract suite against it."
        )
    if not address.encrypted and any(node.host not in _LOCAL for node in address.nodes):
        warnings.append(
            f"the connection to {address.where} is not encrypted, and sends the password in clear"
            " text. Set up TLS on the server and use amqps://."
        )
    return ServerInfo(product, str(server.get("version", "unknown")), tuple(warnings))


def _consumer_timeout(version: tuple[int, ...], hold_s: float) -> str:
    scope = "rabbitmq.conf" if version < (3, 12) else "rabbitmq.conf, or a policy for the queues"
    return (
        "consumer_timeout cannot be read over AMQP (default: 1800000 ms); it takes a job away from a"
        f" worker that holds it for longer. Deliveries are renewed every {hold_s:g} s, so it has to be"
        f" over {2 * hold_s * 1000:.0f} ms: set consumer_timeout in {scope}, or a lower ?hold_s= in"
        " the URL."
    )
