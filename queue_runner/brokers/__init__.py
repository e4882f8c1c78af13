"""Adapters to broker servers. They carry bytes and know nothing of jobs."""

from queue_runner.brokers.base import (
    Broker,
    Capabilities,
    Dead,
    DeadLetter,
    Delivery,
    Depth,
    Message,
    Retry,
    ServerInfo,
    Subscription,
)
from queue_runner.brokers.registry import connect, redacted

__all__ = [
    "Broker",
    "Capabilities",
    "Dead",
    "DeadLetter",
    "Delivery",
    "Depth",
    "Message",
    "Retry",
    "ServerInfo",
    "Subscription",
    "connect",
    "redacted",
]
