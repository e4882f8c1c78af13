"""What a server is and how it is set: what we refuse, and what we warn of."""

from __future__ import annotations

from collections.abc import Mapping

from queue_runner.brokers.base import ServerInfo
from queue_runner.brokers.redis.address import Address
from queue_runner.brokers.redis.driver import Wire
from queue_runner.errors import BrokerRefused

INFO = ("INFO", "server", "memory", "persistence")
_OLDEST = (7, 0)


def check(connection: Wire, address: Address) -> None:
    """Raises `BrokerRefused` for a server that would lose messages or lacks what we need."""
    connection.send_command(*INFO)
    info = parse_info(connection.read_response())
    version = info.get("redis_version", "")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < _OLDEST:
        raise BrokerRefused(
            f"{address.text}: the server is Redis {version or 'of an unknown version'}; queue-runner"
            " needs 7.0 or later (Debian 12 has 7.0), or Valkey"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and not address.allow_eviction:
        raise BrokerRefused(
            f"{address.text}: maxmemory-policy is {policy}, with which a full server throws messages"
            " away. Run `redis-cli CONFIG SET maxmemory-policy noeviction` and put it into redis.conf;"
            " or accept the loss with ?allow_eviction=1 in the URL."
        )


def parse_info(answer: bytes) -> dict[str, str]:
    """https://redis.io/docs/latest/commands/info/"""
    lines = (line.split(":", 1) for line in answer.decode().splitlines() if ":" in line)
    return {name: value for name, value in lines}


def describe(info: Mapping[str, str], fsync: str | None) -> ServerInfo:
    """`fsync`: the setting appendfsync, None where we may not read it."""
    product = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version", info["redis_version"])
    return ServerInfo(product, version, tuple(_warnings(info, fsync)))


def _warnings(info: Mapping[str, str], fsync: str | None) -> list[str]:
    warnings = []
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        warnings.append(
            f"maxmemory-policy is {policy}: a full server throws messages away."
            " Fix: CONFIG SET maxmemory-policy noeviction, and the same in redis.conf."
        )
    if info.get("aof_enabled") != "1":
        warnings.append(
            "appendonly is off: a restart loses what came after the last snapshot, or everything."
            " Fix: CONFIG SET appendonly yes, and the same in redis.conf."
        )
    elif fsync is not None and fsync != "always":
        warnings.append(
            f"appendfsync is {fsync}: a power failure or a crash of the host loses what was confirmed"
            " in the last seconds. Fix: CONFIG SET appendfsync always, and the same in redis.conf."
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        warnings.append("the last write of the append-only file failed: look at the server's disk.")
    return warnings
