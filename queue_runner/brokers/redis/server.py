"""What a server is and how it is set: what we refuse, and what we warn of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from queue_runner.brokers.base import ServerInfo
from queue_runner.brokers.redis.address import Address
from queue_runner.brokers.redis.driver import Wire
from queue_runner.brokers.redis.failures import READONLY, Passing
from queue_runner.errors import BrokerRefused

INFO = ("INFO", "server", "memory", "persistence", "replication")
_OLDEST = (7, 0)


def check(connection: Wire, address: Address) -> None:
    """Raises `BrokerRefused` for a server that would lose messages or lacks what we need, and `Passing`
    for a replica: a failover may be going on."""
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
    if info.get("role", "master") != "master":
        raise Passing(READONLY)


def parse_info(answer: bytes) -> dict[str, str]:
    """https://redis.io/docs/latest/commands/info/"""
    lines = (line.split(":", 1) for line in answer.decode().splitlines() if ":" in line)
    return {name: value for name, value in lines}


def describe(
    info: Mapping[str, str], fsync: str | None, address: Address, doubts: str | None
) -> ServerInfo:
    """`fsync`: the setting appendfsync, None where we may not read it; `doubts`: the Sentinels'."""
    product = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version", info["redis_version"])
    warnings = (*_warnings(info, fsync), *_of_replication(info, address, doubts))
    return ServerInfo(product, version, warnings)


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


def _of_replication(info: Mapping[str, str], address: Address, doubts: str | None) -> Iterator[str]:
    """https://redis.io/docs/latest/operate/oss_and_stack/management/replication/"""
    replicas, wanted = int(info.get("connected_slaves", 0)), address.wait_replicas
    if doubts is not None:
        yield f"the Sentinels could not replace a primary that fails: {doubts}"
    if wanted > replicas:
        yield (
            f"the URL asks for wait_replicas={wanted}, and {replicas} are connected: nothing can be"
            " published. Fix: start the replicas, and look at INFO replication on the primary."
        )
    if address.service is None and replicas == 0:
        return
    if wanted == 0:
        yield (
            "replication is asynchronous: a failover loses what was confirmed just before."
            " Fix: ?wait_replicas=1 in the URL, or as many as there are replicas."
        )
    if "min_slaves_good_slaves" not in info:
        yield (
            "min-replicas-to-write is 0: a primary that was cut off goes on taking what is thrown away"
            " when it is back. Fix: CONFIG SET min-replicas-to-write 1, and the same in redis.conf"
            " of every server."
        )
