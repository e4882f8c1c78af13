"""Bundles (template folders) and artifacts, named by the SHA-256 of their content."""

from queue_runner.store.base import Store
from queue_runner.store.bundle import DEFAULT_LIMITS, BundleLimits
from queue_runner.store.opening import open_store

__all__ = ["DEFAULT_LIMITS", "BundleLimits", "Store", "open_store"]
