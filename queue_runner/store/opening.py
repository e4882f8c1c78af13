"""Which store a URL means."""

from __future__ import annotations

from pathlib import Path

import fsspec

from queue_runner.errors import MissingTool, StoreRefused
from queue_runner.store.base import Store
from queue_runner.store.collector import CollectorStore
from queue_runner.store.folder import FolderStore
from queue_runner.store.remote import RemoteStore


def open_store(url: str, token: str | None = None) -> Store:
    """A store by its URL; nothing is connected yet.

    `file:///folder` or a plain folder; `http(s)://host:port`, a collector's, which needs its `token`;
    any other URL for which fsspec finds an implementation, such as `s3://bucket/folder`.
    Raises `StoreRefused`, `MissingTool`.
    """
    if url.startswith(("http://", "https://")):
        return CollectorStore(url, token)
    try:
        filesystem, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingTool(f"store {url!r}: {error}; for s3:// that is {_S3}") from error
    except (ValueError, TypeError) as error:
        raise StoreRefused(
            f"store {url!r}: {error}. Name a folder, a collector (http://...) or s3://bucket/folder."
        ) from error
    if "file" in _protocols(filesystem):
        return FolderStore(Path(root))
    return RemoteStore(filesystem, root, url)


_S3 = "pip install 'queue-runner[s3]'"


def _protocols(filesystem: object) -> tuple[str, ...]:
    protocol = getattr(filesystem, "protocol", ())
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
