"""Named keys: one of them signs, all of them verify.

A key is a secret of 32 random bytes, from which one secret for each purpose is derived (HKDF-Expand of
RFC 5869 with one block). A host may be given derived secrets alone; from those neither the key nor the
secret of another purpose can be found.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from queue_runner.errors import KeysRefused

SECRET_BYTES = 32
DAY_S = 86_400.0
#: How long a message may wait, where the key file does not say: jobs do wait, for weeks.
MAX_AGE_S = 180 * DAY_S
#: Clocks may be wrong by as much: nothing is refused for less.
CLOCKS_S = DAY_S
#: The purpose of a secret that is shown, and signs nothing.
_FINGERPRINT = "fingerprint"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def derive(secret: bytes, purpose: str) -> bytes:
    return hmac.digest(secret, b"queue-runner/1 " + purpose.encode() + b"\x01", "sha256")


@dataclass(frozen=True, slots=True)
class Key:
    """secret: None where only `derived` ones are here, by purpose. Times are unix seconds.

    After `not_after` it does not sign any more, and a day later it does not verify.
    """

    name: str
    secret: bytes | None = field(repr=False)
    derived: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    made_at: float = 0.0
    not_after: float | None = None

    @classmethod
    def make(cls, name: str, now: float, not_after: float | None = None) -> Self:
        return cls(check_name(name), secrets.token_bytes(SECRET_BYTES), {}, now, not_after)

    def secret_for(self, purpose: str) -> bytes | None:
        """None where this host was given no secret for that purpose."""
        if self.secret is None:
            return self.derived.get(purpose)
        return derive(self.secret, purpose)

    def limited_to(self, purposes: tuple[str, ...]) -> Self:
        """The same key for these purposes only. Raises `KeysRefused` where it is limited already."""
        if self.secret is None:
            raise KeysRefused(
                f"the key {self.name!r} is here for {', '.join(self.limits or ())} only: export from the"
                " file that has the whole key"
            )
        derived = {purpose: derive(self.secret, purpose) for purpose in (*purposes, _FINGERPRINT)}
        return replace(self, secret=None, derived=derived)

    def may_sign(self, now: float) -> bool:
        return self.not_after is None or now <= self.not_after

    def may_verify(self, now: float) -> bool:
        return self.not_after is None or now <= self.not_after + CLOCKS_S

    @property
    def fingerprint(self) -> str:
        """Tells keys of one name apart, and nothing of their secret."""
        return (self.secret_for(_FINGERPRINT) or b"")[:4].hex()

    @property
    def limits(self) -> tuple[str, ...] | None:
        """The purposes that it is limited to on this host; None for a whole key."""
        return None if self.secret is not None else tuple(sorted({*self.derived} - {_FINGERPRINT}))


def check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise KeysRefused(
            f"{name!r} is no name for a key: up to 64 letters, digits, '.', '_' or '-',"
            " the first a letter or a digit"
        )
    return name


@dataclass(frozen=True, slots=True)
class KeySet:
    """`signs` names the one that signs; empty where this host only verifies."""

    keys: Mapping[str, Key]
    signs: str = ""
    max_age_s: float = MAX_AGE_S

    def with_key(self, key: Key) -> Self:
        """The first one signs, later ones verify until `signing_with`."""
        if key.name in self.keys:
            raise KeysRefused(f"there is a key {key.name!r} already; choose another name")
        return replace(self, keys={**self.keys, key.name: key}, signs=self.signs or key.name)

    def signer(self, now: float) -> Key:
        """Raises `KeysRefused` where there is none, or where it has expired."""
        if not self.signs:
            raise KeysRefused("no key here signs; name one with `queue-runner keys use`")
        key = self.keys[self.signs]
        if not key.may_sign(now):
            raise KeysRefused(
                f"the key {key.name!r} has expired; make another one with `queue-runner keys new` and"
                " let it sign with `queue-runner keys use`"
            )
        return key

    def signing_with(self, name: str) -> Self:
        return replace(self, signs=self.named(name).name)

    def without(self, name: str) -> Self:
        """Raises `KeysRefused` for the one that signs."""
        key = self.named(name)
        if key.name == self.signs:
            raise KeysRefused(
                f"the key {name!r} signs: make another one, let it sign (`keys use`), and retire this"
                " one when what it has signed is through"
            )
        return replace(self, keys={n: each for n, each in self.keys.items() if n != name})

    def limited_to(self, purposes: tuple[str, ...]) -> Self:
        limited = {name: key.limited_to(purposes) for name, key in self.keys.items()}
        return replace(self, keys=limited)

    def named(self, name: str) -> Key:
        if name not in self.keys:
            raise KeysRefused(f"no key {name!r} here; there are: {known(self.keys)}")
        return self.keys[name]


def known(keys: Mapping[str, Key]) -> str:
    return ", ".join(sorted(keys)) or "none"
