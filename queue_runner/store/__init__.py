"""Bundles (template folders) and artifacts, named by the SHA-256 of their content."""

from queue_runner.store.base import Store, open_store

__all__ = ["Store", "open_store"]
