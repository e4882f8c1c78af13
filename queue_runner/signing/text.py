"""The text of a key file: JSON, times as people write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from queue_runner.errors import KeysRefused
from queue_runner.signing.keys import DAY_S, MAX_AGE_S, SECRET_BYTES, Key, KeySet, check_name

VERSION = 1


def write_keys(keys: KeySet) -> str:
    plain = {
        "version": VERSION,
        "signs": keys.signs,
        "max_age_days": keys.max_age_s / DAY_S,
        "keys": {name: _plain(key) for name, key in keys.keys.items()},
    }
    return json.dumps(plain, indent=2) + "\n"


def read_keys(text: str, where: str) -> KeySet:
    """Raises `KeysRefused`, whose text names the field and holds no secret."""
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        # the error's own text may quote the file
        raise KeysRefused(f"{where}: not the JSON of a key file") from error
    try:
        return _keys(plain)
    except KeysRefused as error:
        raise KeysRefused(f"{where}: {error}") from error


def time_of(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(text: str) -> float:
    """Of `2027-01-31` or `2027-01-31T12:00:00Z`. Raises `ValueError`."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _plain(key: Key) -> dict[str, Any]:
    plain: dict[str, Any] = {"made_at": time_of(key.made_at)}
    if key.not_after is not None:
        plain["not_after"] = time_of(key.not_after)
    if key.secret is not None:
        plain["secret"] = key.secret.hex()
    else:
        plain["secrets"] = {purpose: secret.hex() for purpose, secret in key.derived.items()}
    return plain


def _keys(plain: Any) -> KeySet:
    table = _map(plain, "the file")
    if table.get("version") != VERSION:
        raise KeysRefused(f"version: this program reads version {VERSION} of key files")
    keys = {
        check_name(name): _key(name, _map(each, f"keys.{name}"))
        for name, each in _map(table.get("keys"), "keys").items()
    }
    age = table.get("max_age_days", MAX_AGE_S / DAY_S)
    if isinstance(age, bool) or not isinstance(age, int | float) or not 0 < age < 1e6:
        raise KeysRefused("max_age_days: expected a number of days")
    signs = table.get("signs", "")
    if signs != "" and signs not in keys:
        raise KeysRefused("signs: expected the name of one of the keys, or an empty text")
    return KeySet(keys, signs, age * DAY_S)


def _key(name: str, table: Mapping[str, Any]) -> Key:
    where = f"keys.{name}"
    if ("secret" in table) == ("secrets" in table):
        raise KeysRefused(f"{where}: expected either secret, or secrets by purpose")
    secret = _secret(table["secret"], f"{where}.secret") if "secret" in table else None
    derived = {
        purpose: _secret(text, f"{where}.secrets")
        for purpose, text in _map(table.get("secrets", {}), f"{where}.secrets").items()
    }
    made_at = _time(table.get("made_at"), f"{where}.made_at") or 0.0
    return Key(name, secret, derived, made_at, _time(table.get("not_after"), f"{where}.not_after"))


def _map(plain: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(plain, dict):
        raise KeysRefused(f"{where}: expected a map")
    return plain


def _secret(text: Any, where: str) -> bytes:
    try:
        secret = bytes.fromhex(text)
    except (TypeError, ValueError):
        secret = b""
    if len(secret) != SECRET_BYTES:
        # without its cause, which may quote the secret
        raise KeysRefused(
            f"{where}: expected {SECRET_BYTES} bytes as {2 * SECRET_BYTES} hex digits"
        )
    return secret


def _time(text: Any, where: str) -> float | None:
    if text is None:
        return None
    try:
        return seconds_of(text)
    except (TypeError, ValueError) as error:
        raise KeysRefused(f"{where}: expected a time such as 2027-01-31T12:00:00Z") from error
