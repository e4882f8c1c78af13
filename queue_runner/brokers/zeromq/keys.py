"""Key pairs of CURVE, ZeroMQ's encryption, as files: `NAME.key` is secret, `NAME.pub` goes to the others.

Either holds 40 printable characters, as libzmq's `curve_keygen` prints them; what follows on the line of a
public key is a name for the reader. Server and client have a pair each: the server's public key tells the
client that it is talking to the right one, the client's public key lets it in.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from queue_runner.errors import FixThis

#: https://rfc.zeromq.org/spec/32/
_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


@dataclass(frozen=True, slots=True)
class KeyPair:
    public: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a client needs: a pair of its own, and the server's public key."""

    own: KeyPair
    server: bytes


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """`allowed`: a file with a public key on each line, or a folder of such files, `*.pub`."""

    own: KeyPair
    allowed: Path


def server_keys(key: Path | None, allowed: Path | None) -> ServerKeys | None:
    """What the server's options come to. Raises `FixThis`."""
    if key is None and allowed is None:
        return None
    if key is None or allowed is None:
        raise FixThis("the server's secret key and its clients' public keys go together")
    return ServerKeys(read_pair(key), allowed)


def make_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a new pair; returns the paths of secret and public key. Raises `FixThis`, overwrites nothing."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,80}", name):
        raise FixThis(f"{name!r} is no name for a key: expected 1 to 80 out of A-Za-z0-9._-")
    public, secret = zmq.curve_keypair()
    paths = folder / f"{name}.key", folder / f"{name}.pub"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_new(paths[0], f"{secret.decode()}\n", 0o600)
        _write_new(paths[1], f"{public.decode()} {name}\n", 0o644)
    except FileExistsError as error:
        raise FixThis(f"{error.filename} is there already; choose another name") from error
    return paths


def _write_new(path: Path, text: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as out:
        out.write(text)


def read_pair(path: Path) -> KeyPair:
    """The pair of a secret key's file. Raises `FixThis`."""
    text = _read(path)
    if not _KEY.fullmatch(text.strip()):
        raise FixThis(f"{path}: expected a secret key of 40 characters; `queue-runner keys curve`")
    secret = text.strip().encode()
    return KeyPair(zmq.curve_public(secret), secret)


def read_public(path: Path) -> bytes:
    """The one public key in a file. Raises `FixThis`."""
    keys = sorted(_public_keys(path))
    if len(keys) != 1:
        raise FixThis(f"{path}: expected one public key, found {len(keys)}")
    return keys[0]


def read_allowed(path: Path) -> frozenset[bytes]:
    """All public keys in a file, or in the files `*.pub` of a folder. Raises `FixThis`."""
    files = sorted(path.glob("*.pub")) if path.is_dir() else [path]
    return frozenset(key for file in files for key in _public_keys(file))


def _public_keys(path: Path) -> set[bytes]:
    keys = set()
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip() or line.startswith("# "):
            continue
        word = line.split()[0]
        if not _KEY.fullmatch(word):
            raise FixThis(f"{path}, line {number}: expected a public key of 40 characters")
        keys.add(word.encode())
    return keys


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise FixThis(f"cannot read the key file {path}: {error}") from error
