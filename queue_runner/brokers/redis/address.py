"""What a Redis URL says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote

from queue_runner.brokers.checks import check_name
from queue_runner.brokers.hosts import split_hosts
from queue_runner.brokers.registry import redacted
from queue_runner.brokers.tls import client_context
from queue_runner.errors import BrokerRefused

TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password_file")
_OPTIONS = ("prefix", "allow_eviction", "wait_replicas", *TLS_OPTIONS, *_SENTINEL_OPTIONS)
_MOST_REPLICAS = 100


@dataclass(frozen=True, slots=True)
class Address:
    """`text` is for messages and has no password; `tls` are redis-py's own names, paths of PEM files.

    hosts: the server, or the Sentinels that know where the primary of `service` is.
    login: user and password of the server; sentinel_login: of the Sentinels.
    wait_replicas: how many replicas have to have what was published or settled.
    """

    text: str
    hosts: tuple[tuple[str, int], ...]
    service: str | None
    db: int
    login: tuple[str | None, str | None] = field(repr=False)
    sentinel_login: tuple[str | None, str | None] = field(repr=False)
    prefix: str
    allow_eviction: bool
    wait_replicas: int
    tls: dict[str, str] | None

    @property
    def where(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self.hosts)


def parse(url: str) -> Address:
    """Raises `ValueError`, and `BrokerRefused` for a password or TLS file that is of no use.

    `redis(s)://[user:password@]host[:port][/db][?option=value&...]`, or
    `redis(s)+sentinel://[user:password@]sentinel[:port],.../service[/db][?option=value&...]`.
    """
    text = redacted(url)
    scheme = url.partition(":")[0]
    sentinel, tls = scheme.endswith("+sentinel"), scheme.startswith("rediss")
    parts, hosts = split_hosts(url, 26379 if sentinel else 6379)
    options = _options(parts, text)
    if not tls and any(option in options for option in TLS_OPTIONS):
        raise ValueError(f"{text}: certificates are for TLS; write rediss instead of redis")
    if not sentinel and (len(hosts) > 1 or any(name in options for name in _SENTINEL_OPTIONS)):
        raise ValueError(f"{text}: several hosts are Sentinels, as in {_SENTINEL_EXAMPLE}")
    if not all(host for host, _ in hosts):
        raise ValueError(f"{text}: expected a host, as in {_EXAMPLE}")
    service, db = _path(parts, sentinel, text)
    return Address(
        text=text,
        hosts=hosts,
        service=service,
        db=db,
        login=(_unquoted(parts.username), _unquoted(parts.password)),
        sentinel_login=(options.get("sentinel_username"), _password(options, text)),
        prefix=check_name(options.get("prefix", "qr"), "prefix"),
        allow_eviction=options.get("allow_eviction", "0") == "1",
        wait_replicas=_replicas(options, text),
        tls=_tls(options, text) if tls else None,
    )


_EXAMPLE = "redis://127.0.0.1:6379/0"
_SENTINEL_EXAMPLE = "redis+sentinel://host1:26379,host2:26379/service/0"


def _path(parts: SplitResult, sentinel: bool, text: str) -> tuple[str | None, int]:
    names = [unquote(name) for name in parts.path.split("/") if name]
    service = names.pop(0) if sentinel and names else None
    number = names.pop(0) if names else "0"
    if names or not (number.isascii() and number.isdecimal()) or (sentinel and service is None):
        example = _SENTINEL_EXAMPLE if sentinel else _EXAMPLE
        raise ValueError(f"{text}: expected a database number, as in {example}")
    return service, int(number)


def _options(parts: SplitResult, text: str) -> dict[str, str]:
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := sorted(set(options) - set(_OPTIONS)):
        raise ValueError(
            f"{text}: unknown option {', '.join(unknown)}; there is: {', '.join(_OPTIONS)}"
        )
    if options.get("allow_eviction", "0") not in ("0", "1"):
        raise ValueError(f"{text}: allow_eviction is 0 or 1")
    return options


def _replicas(options: dict[str, str], text: str) -> int:
    number = options.get("wait_replicas", "0")
    if not (number.isascii() and number.isdecimal()) or int(number) > _MOST_REPLICAS:
        raise ValueError(f"{text}: wait_replicas is a number of replicas, 0 to {_MOST_REPLICAS}")
    return int(number)


def _password(options: dict[str, str], text: str) -> str | None:
    name = options.get("sentinel_password_file")
    if name is None:
        return None
    try:
        return Path(name).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BrokerRefused(f"{text}: sentinel_password_file cannot be read: {error}") from error


def _unquoted(text: str | None) -> str | None:
    return unquote(text) if text else None


def _tls(options: dict[str, str], text: str) -> dict[str, str]:
    client_context(text, options, TLS_OPTIONS)  # raises for files that are of no use
    return {name: options[name] for name in TLS_OPTIONS if name in options}
