"""RabbitMQ, 3.10 or later, through pika. The server as we deploy it is in brokers/rabbitmq/."""

from __future__ import annotations

import logging

from queue_runner.brokers.base import Broker
from queue_runner.brokers.rabbitmq.adapter import RabbitBroker
from queue_runner.brokers.rabbitmq.address import parse

__all__ = ["open_rabbitmq"]


def open_rabbitmq(url: str) -> Broker:
    """An adapter for `amqp(s)://user:password@host:port/vhost`; it connects when first used.

    `host1,host2:5673,host3` are the nodes of one cluster: it takes any that answers.

    Query parameters: `prefix` (of all names on the server; default `queue-runner`), `heartbeat`
    (seconds; default: half of the shortest lease, 5 to 30), `hold_s` (seconds after which a delivery is
    renewed on the server; default 600, less than half of its `consumer_timeout`), for TLS `cacertfile`,
    `certfile`, `keyfile`, `verify` (`verify_peer`, `verify_none`) and `server_name_indication`.

    Raises `ValueError` for a malformed URL and `BrokerRefused` for TLS files that cannot be read.
    """
    pika_log = logging.getLogger("pika")
    if pika_log.level == logging.NOTSET:
        # it logs every failed attempt, with a stack trace; what matters comes as our errors
        pika_log.setLevel(logging.CRITICAL)
    return RabbitBroker(parse(url))
