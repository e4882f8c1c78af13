"""The ZeroMQ broker: a small server of ours with a journal, and the adapter to it.

It serves one machine or a lab; beyond that the answer is RabbitMQ or Redis.
"""

from queue_runner.brokers.zeromq.adapter import ZeroMQBroker, open_zeromq

__all__ = ["ZeroMQBroker", "open_zeromq"]
