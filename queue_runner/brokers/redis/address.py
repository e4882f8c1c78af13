"""What a Redis URL says."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from queue_runner.brokers.checks import check_name
from queue_runner.brokers.registry import redacted

_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OPTIONS = ("prefix", "allow_eviction", *_TLS_OPTIONS)


@dataclass(frozen=True, slots=True)
class Address:
    """`text` is for messages and has no password; `tls` are redis-py's own names, paths of PEM files."""

    text: str
    host: str
    port: int
    db: int
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    prefix: str
    allow_eviction: bool
    tls: dict[str, str] | None


def parse(url: str) -> Address:
    """`redis(s)://[user:password@]host[:port][/db][?option=value&...]`. Raises `ValueError`."""
    text = redacted(url)
    parts = urlsplit(url)
    options = _options(parts, text)
    if parts.scheme != "rediss" and any(option in options for option in _TLS_OPTIONS):
        raise ValueError(f"{text}: certificates are for TLS; write rediss:// instead of redis://")
    try:
        port, db = parts.port or 6379, int(parts.path.strip("/") or 0)
    except ValueError as error:
        raise ValueError(f"{text}: expected redis://host:port/number, as in {_EXAMPLE}") from error
    if not parts.hostname or db < 0:
        raise ValueError(f"{text}: expected a host and a database number, as in {_EXAMPLE}")
    return Address(
        text=text,
        host=parts.hostname,
        port=port,
        db=db,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        prefix=check_name(options.get("prefix", "qr"), "prefix"),
        allow_eviction=options.get("allow_eviction", "0") == "1",
        tls=_tls(options) if parts.scheme == "rediss" else None,
    )


_EXAMPLE = "redis://127.0.0.1:6379/0"


def _options(parts: SplitResult, text: str) -> dict[str, str]:
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := sorted(set(options) - set(_OPTIONS)):
        raise ValueError(
            f"{text}: unknown option {', '.join(unknown)}; there is: {', '.join(_OPTIONS)}"
        )
    if options.get("allow_eviction", "0") not in ("0", "1"):
        raise ValueError(f"{text}: allow_eviction is 0 or 1")
    return options


def _tls(options: dict[str, str]) -> dict[str, str]:
    return {name: options[name] for name in _TLS_OPTIONS if name in options}
