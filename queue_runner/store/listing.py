"""A folder as a list of objects: what of it has not changed since the last time is not sent again."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

from queue_runner.errors import StoreDamaged
from queue_runner.store.base import Store

VERSION = 1


@dataclass(frozen=True, slots=True)
class Listed:
    """name: a path in the folder, with forward slashes."""

    name: str
    sha256: str
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """label: says, for people, what it is the state of; logs: names of the logs in it, oldest first."""

    label: str
    files: tuple[Listed, ...]
    logs: tuple[str, ...] = ()


def put_listing(store: Store, listing: Listing) -> str:
    """Keep a listing, whose files are in the store already; returns its hash. Raises as `Store.put`."""
    rows = [[file.name, file.sha256, file.executable] for file in listing.files]
    said = {"version": VERSION, "label": listing.label, "logs": listing.logs, "files": rows}
    text = json.dumps(said)
    return store.put(io.BytesIO(text.encode()))[0]


def read_listing(store: Store, sha256: str) -> Listing:
    """Raises `NotFound`, `StoreDamaged`."""
    content = io.BytesIO()
    store.get(sha256, content)
    try:
        said = json.loads(content.getvalue())
        if said["version"] != VERSION:
            raise ValueError(f"version {said['version']!r:.20}")
        files = tuple(Listed(str(n), str(h), bool(x)) for n, h, x in said["files"])
        return Listing(str(said["label"]), files, tuple(map(str, said["logs"])))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreDamaged(f"object {sha256} is no listing of files: {error!r:.200}") from error


def get_files(store: Store, listing: Listing, into: Path) -> None:
    """Bring the files of a listing into a folder. Raises `NotFound`, `StoreDamaged`."""
    root = into.resolve()
    for file in listing.files:
        path = _inside(root, file.name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as out:
                store.get(file.sha256, out)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise StoreDamaged(f"a listing names {file.name!r:.200} twice: {error}") from error
        path.chmod(0o755 if file.executable else 0o644)


def _inside(root: Path, name: str) -> Path:
    # whoever may write to the store may have made the listing
    path = root / name
    if "\0" in name or path == root or not path.resolve().is_relative_to(root):
        raise StoreDamaged(f"a listing names {name!r:.200}, which is outside its folder")
    return path
