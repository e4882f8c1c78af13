"""Asking Sentinels where the primary is: anew for each connection, for it may have moved since.

https://redis.io/docs/latest/develop/reference/sentinel-clients/ . redis-py's own Sentinel client takes
a wrong password for a Sentinel that is away; what is refused has to be said at once.
"""

from __future__ import annotations

from typing import Any

from redis.exceptions import AuthenticationError, RedisError, ResponseError

from queue_runner.brokers.redis.address import Address
from queue_runner.brokers.redis.driver import make_wire
from queue_runner.brokers.redis.failures import Passing
from queue_runner.brokers.redis.tls import explaining_tls
from queue_runner.errors import BrokerRefused

#: Seconds that one Sentinel gets: there are others.
_SENTINEL_S = 2.0


def primary(address: Address, timeout_s: float) -> tuple[str, int]:
    """Host and port of the server to speak to.

    Raises `Passing`, `BrokerRefused` for a service that no Sentinel knows, and what the driver raises.
    """
    if address.service is None:
        return address.hosts[0]
    answer = _first_answer(address, timeout_s, "GET-MASTER-ADDR-BY-NAME", address.service)
    if answer is None:
        raise BrokerRefused(
            f"{address.text}: the Sentinels know no service {address.service!r}. The name in the URL is"
            " that of `sentinel monitor` in their configuration."
        )
    host, port = answer
    return host.decode(), int(port)


def doubts(address: Address, timeout_s: float) -> str | None:
    """Why the Sentinels could not replace a primary that fails; None when they could."""
    if address.service is None:
        return None
    try:
        _first_answer(address, timeout_s, "CKQUORUM", address.service)
    except ResponseError as error:
        return str(error)
    return None


def _first_answer(address: Address, timeout_s: float, *command: str) -> Any:
    """Of the first Sentinel that knows one; None where none does that answers at all."""
    silent: list[str] = []
    for host, port in address.hosts:
        try:
            answer = _ask(address, host, port, min(timeout_s, _SENTINEL_S), *command)
        except (AuthenticationError, ResponseError):
            raise
        except (RedisError, OSError) as error:
            silent.append(f"{host}:{port}: {error}")
            continue
        if answer is not None:
            return answer
    if len(silent) == len(address.hosts):
        raise Passing(f"no Sentinel answers ({'; '.join(silent)})")
    return None


def _ask(address: Address, host: str, port: int, timeout_s: float, *command: str) -> Any:
    wire = make_wire(host, port, timeout_s, login=address.sentinel_login, tls=address.tls)
    try:
        with explaining_tls(address, host, port, timeout_s):
            wire.connect()
            wire.send_command("SENTINEL", *command)
            return wire.read_response()
    finally:
        wire.disconnect()
