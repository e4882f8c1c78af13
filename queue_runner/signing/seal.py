"""What is put around a message's bytes before they go to a broker, and taken off when they come.

A batch has one signature, and nothing is encoded twice: a few microseconds for each message.
"""

from __future__ import annotations

import hmac
import itertools
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import NamedTuple

from queue_runner.errors import KeysRefused, NoKeys, NotTrusted
from queue_runner.signing.file import KeyFile
from queue_runner.signing.keys import CLOCKS_S, DAY_S, Key, KeySet, known
from queue_runner.signing.layout import (
    MAGIC,
    SIGNATURE_BYTES,
    TAIL,
    header,
    header_bytes,
    read_header,
)
from queue_runner.signing.purposes import Role
from queue_runner.signing.replays import Heard

#: A broadcast arrives at once or not at all.
_BROADCAST_AGE_S = DAY_S


class Seal(ABC):
    """Signs what is sent and opens what comes. Safe to use from several threads."""

    @abstractmethod
    def seal(self, body: bytes, purpose: str) -> bytes:
        """The message to send. Raises `KeysRefused` when no key may sign (any more)."""

    @abstractmethod
    def open_any(self, message: bytes, purposes: Collection[str]) -> tuple[str | None, bytes]:
        """The body, and for which of `purposes` it was signed; None where nobody signs.

        Raises `NotTrusted`.
        """

    def open(self, message: bytes, purpose: str) -> bytes:
        """The body of what was signed for this purpose. Raises `NotTrusted`."""
        return self.open_any(message, (purpose,))[1]

    @abstractmethod
    def hear(self, message: bytes, purpose: str, heard: Heard) -> bytes:
        """The body of a broadcast that this listener has not heard before. Raises `NotTrusted`."""

    @abstractmethod
    def check(self, role: Role) -> None:
        """Raises `KeysRefused` when the keys are not enough for that role."""


class Unsigned(Seal):
    """Without keys: nothing is signed, and what is signed by others is not taken for granted."""

    def seal(self, body: bytes, purpose: str) -> bytes:
        return body

    def open_any(self, message: bytes, purposes: Collection[str]) -> tuple[str | None, bytes]:
        if message.startswith(MAGIC):
            raise NoKeys(
                "it is signed, and there are no keys here to check it with: set QUEUE_RUNNER_KEYS_FILE"
                " or keys_file, restart, then `queue-runner dead QUEUE --replay`"
            )
        return None, message

    def hear(self, message: bytes, purpose: str, heard: Heard) -> bytes:
        return self.open(message, purpose)

    def check(self, role: Role) -> None:
        pass


UNSIGNED = Unsigned()


class _Place(NamedTuple):
    """One key in one place. `header` begins every message that it signs there."""

    key: Key
    purpose: str
    secret: bytes
    header: bytes


class _Places:
    """A key set with what was derived from it so far."""

    def __init__(self, keys: KeySet) -> None:
        self.keys = keys
        self._by_purpose: dict[tuple[str, str], _Place | None] = {}
        self.by_header: dict[bytes, _Place] = {}

    def of(self, name: str, purpose: str) -> _Place | None:
        """None where this host was given no secret for that purpose."""
        if (name, purpose) not in self._by_purpose:
            self._by_purpose[name, purpose] = self._derive(self.keys.keys[name], purpose)
        return self._by_purpose[name, purpose]

    def _derive(self, key: Key, purpose: str) -> _Place | None:
        secret = key.secret_for(purpose)
        if secret is None:
            return None
        place = _Place(key, purpose, secret, header(key.name, purpose))
        self.by_header[place.header] = place
        return place


class Keyed(Seal):
    """With the keys of a file, which may change at any time."""

    def __init__(self, file: KeyFile) -> None:
        self._file = file
        self._sender = os.urandom(8)
        self._numbers = itertools.count()
        self._places = _Places(file.keys())

    # -- signing -----------------------------------------------------------------------------------

    def seal(self, body: bytes, purpose: str) -> bytes:
        places = self._current()
        key = self._signing(places.keys)
        place = places.of(key.name, purpose)
        if place is None:
            raise KeysRefused(
                f"{self._file.path}: the key {key.name!r} is not for {purpose!r} on this host; give it"
                " one with `queue-runner keys export`"
            )
        tail = TAIL.pack(self._sender, next(self._numbers), time.time_ns() // 1000)
        content = b"".join((place.header, tail, body))
        return content + hmac.digest(place.secret, content, "sha256")

    def _signing(self, keys: KeySet) -> Key:
        try:
            return keys.signer(time.time())
        except KeysRefused as error:
            raise KeysRefused(f"{self._file.path}: {error}") from error

    # -- opening -----------------------------------------------------------------------------------

    def open_any(self, message: bytes, purposes: Collection[str]) -> tuple[str | None, bytes]:
        places = self._current()
        place = self._place(places, message, purposes)
        content = _verified(message, place)
        _, _, signed_at = TAIL.unpack_from(content, len(place.header))
        _check_times(place.key, signed_at, places.keys.max_age_s)
        return place.purpose, _body(content, place)

    def hear(self, message: bytes, purpose: str, heard: Heard) -> bytes:
        place = self._place(self._current(), message, (purpose,))
        content = _verified(message, place)
        sender, number, signed_at = TAIL.unpack_from(content, len(place.header))
        _check_times(place.key, signed_at, _BROADCAST_AGE_S)
        heard.note(purpose, sender, number)
        return _body(content, place)

    def _place(self, places: _Places, message: bytes, purposes: Collection[str]) -> _Place:
        """Where the message says that it belongs; not yet whether that is true."""
        place = places.by_header.get(message[: header_bytes(message)])
        name, purpose = (place.key.name, place.purpose) if place else read_header(message)
        if purpose not in purposes:
            expected = " or ".join(map(repr, purposes))
            raise NotTrusted(f"it was signed for {purpose!r}, and came for {expected}")
        return place or self._find(places, name, purpose)

    def _find(self, places: _Places, name: str, purpose: str) -> _Place:
        if name not in places.keys.keys:
            # it may have come with a file that was replaced just now
            places = self._adopted(self._file.look())
        if name not in places.keys.keys:
            raise NotTrusted(
                f"it is signed with a key {name!r}, which is not known here; known:"
                f" {known(places.keys.keys)}"
            )
        place = places.of(name, purpose)
        if place is None:
            raise NotTrusted(f"the key {name!r} is not for {purpose!r} on this host")
        return place

    def check(self, role: Role) -> None:
        places = self._current()
        signing = self._signing(places.keys)
        missing = [each for each in role.signs if places.of(signing.name, each) is None]
        for each in role.opens:
            if all(places.of(name, each) is None for name in places.keys.keys):
                missing.append(each)
        if missing:
            raise KeysRefused(
                f"{self._file.path}: these keys are not enough for a {role.name}: nothing for"
                f" {', '.join(missing)}. Export them with `queue-runner keys export`"
            )

    # -- keys --------------------------------------------------------------------------------------

    def _current(self) -> _Places:
        return self._adopted(self._file.keys())

    def _adopted(self, keys: KeySet) -> _Places:
        places = self._places
        if keys is not places.keys:
            places = self._places = _Places(keys)
        return places


def _verified(message: bytes, place: _Place) -> memoryview:
    """What was signed. Raises `NotTrusted`."""
    content = memoryview(message)[:-SIGNATURE_BYTES]
    signature = hmac.digest(place.secret, content, "sha256")
    if not hmac.compare_digest(signature, message[-SIGNATURE_BYTES:]):
        raise NotTrusted(
            "its signature is wrong: it was altered, or signed with another key of the name"
            f" {place.key.name!r} (`queue-runner keys list` shows fingerprints)"
        )
    return content


def _body(content: memoryview, place: _Place) -> bytes:
    return bytes(content[len(place.header) + TAIL.size :])


def _check_times(key: Key, signed_at: int, max_age_s: float) -> None:
    now = time.time()
    if not key.may_verify(now):
        raise NotTrusted(f"it is signed with the key {key.name!r}, which has expired")
    age_s = now - signed_at / 1e6
    if age_s > max_age_s + CLOCKS_S:
        raise NotTrusted(
            f"it has expired: it was signed {age_s / DAY_S:.0f} days ago, and"
            f" {max_age_s / DAY_S:g} days are allowed"
        )
    if age_s < -CLOCKS_S:
        raise NotTrusted(
            f"it was signed {-age_s / DAY_S:.0f} days in the future; is the sender's clock right?"
        )
