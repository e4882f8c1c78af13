"""Which store a URL means."""

from __future__ import annotations

from pathlib import Path

from queue_runner.errors import MissingTool, StoreRefused
from queue_runner.store.base import Store
from queue_runner.store.bundle import DEFAULT_LIMITS, BundleLimits
from queue_runner.store.folder import FolderStore


def open_store(
    url: str,
    token: str | None = None,
    ca_file: Path | None = None,
    bundles: BundleLimits = DEFAULT_LIMITS,
) -> Store:
    """A store by its URL; nothing is connected yet. `bundles`: what a folder that is put or got may be.

    `file:///folder` or a plain folder; `http(s)://host:port`, a collector's, which needs its `token`
    and for HTTPS maybe the `ca_file` of the authority that signed its certificate;
    any other URL for which fsspec finds an implementation, such as `s3://bucket/folder`.
    Raises `StoreRefused`, `MissingTool`.
    """
    store = _opened(url, token, ca_file)
    store.bundles = bundles
    return store


def _opened(url: str, token: str | None, ca_file: Path | None) -> Store:
    # what a folder does not need takes longer to import than a short study takes to run
    if url.startswith("file:///") and "::" not in url:
        return FolderStore(Path(url.removeprefix("file://").rstrip("/") or "/"))
    if url.startswith(("http://", "https://")):
        from queue_runner.store.collector import CollectorStore

        return CollectorStore(url, token, ca_file)
    import fsspec

    from queue_runner.store.remote import RemoteStore

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
