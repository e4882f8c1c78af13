"""Redis 7.0 and later, and Valkey: streams, with the rules of the contract in Lua on the server."""

from queue_runner.brokers.redis.adapter import RedisBroker, open_redis

__all__ = ["RedisBroker", "open_redis"]
