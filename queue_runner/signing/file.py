"""A key file: who may read it, how it is written, and how a daemon notices that it has changed."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import time
from pathlib import Path

from queue_runner.errors import KeysRefused
from queue_runner.signing.keys import KeySet, known
from queue_runner.signing.text import read_keys, write_keys

log = logging.getLogger("queue_runner.keys")

#: Seconds between two looks at the file.
_LOOK_S = 1.0
#: Where Docker, Swarm and Podman mount a container's secrets, readable for all who are in there.
_SECRETS = Path("/run/secrets")
#: What a temporary file has already; to say it again fails on a disk that knows no rights.
_OWNERS = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class KeyFile:
    """The keys in `path`, read again when it changes.

    A file that went away or was spoilt changes nothing for who had read it before; it says so.
    """

    def __init__(self, path: Path, *, guarded: bool = True) -> None:
        """guarded: whether to refuse a file that others can read. Raises `KeysRefused`."""
        self.path, self._guarded = path, guarded
        self._seen = _version(path)
        self._keys = read_key_file(path, guarded=guarded)
        self._look_at = time.monotonic() + _LOOK_S

    def keys(self) -> KeySet:
        """The keys, as they were a second ago or later."""
        if time.monotonic() >= self._look_at:
            self.look()
        return self._keys

    def look(self) -> KeySet:
        """The keys as they are now."""
        self._look_at = time.monotonic() + _LOOK_S
        seen = _version(self.path)
        if seen != self._seen:
            self._seen = seen
            self._read_again()
        return self._keys

    def _read_again(self) -> None:
        try:
            self._keys = read_key_file(self.path, guarded=self._guarded)
        except KeysRefused as error:
            log.error("the keys stay as they were: %s", error)
        else:
            signs = self._keys.signs or "none"
            log.info(
                "%s has changed: keys %s, signing: %s", self.path, known(self._keys.keys), signs
            )


def _version(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)


def read_key_file(path: Path, *, guarded: bool = True) -> KeySet:
    """Raises `KeysRefused` for a file that is missing, spoilt, or (where `guarded`) that others can read."""
    try:
        with path.open(encoding="utf-8") as source:
            if guarded and _exposed(path, os.fstat(source.fileno()).st_mode):
                raise KeysRefused(
                    f"{path}: others on this machine can read or change these keys. Take that away"
                    f" (chmod 600 {path}); if somebody may have read them, make new ones"
                )
            text = source.read()
    except FileNotFoundError as error:
        raise KeysRefused(
            f"{path}: no such key file; `queue-runner keys new --keys-file {path}` makes one"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise KeysRefused(f"{path}: {_why(error)}") from error
    return read_keys(text, str(path))


def _exposed(path: Path, mode: int) -> bool:
    """Whether somebody else can get at it: by its mode, and that of the folders above."""
    if not mode & _OTHERS or path.is_relative_to(_SECRETS):
        return False
    passable = stat.S_IXGRP | stat.S_IXOTH
    return all(folder.stat().st_mode & passable for folder in path.resolve().parents)


def write_key_file(path: Path, keys: KeySet) -> None:
    """Replace the file in one step; its mode stays, and a new one is its owner's alone."""
    mode, owner = _OWNERS, None
    try:
        before = path.stat()
        mode, owner = stat.S_IMODE(before.st_mode), (before.st_uid, before.st_gid)
    except FileNotFoundError:
        pass
    try:
        _replace(path, write_keys(keys), mode, owner)
    except OSError as error:
        raise KeysRefused(f"{path}: cannot be written: {_why(error)}") from error


def _replace(path: Path, text: str, mode: int, owner: tuple[int, int] | None) -> None:
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.fchown(out.fileno(), *owner)
            if mode != _OWNERS:
                os.fchmod(out.fileno(), mode)
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else "not a text"
