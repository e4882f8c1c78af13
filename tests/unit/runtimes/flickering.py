"""An engine that answers again after a while."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import requests


class Flickering:
    """An engine, as its client and that client's `api`: `away` is how many calls it fails, having done what
    they asked for, which nobody learns.
    """

    def __init__(self, away: int) -> None:
        self.away = away
        self.there: dict[str, dict[str, str]] = {}
        self.api, self.containers = self, self
        self._changed = threading.Condition()

    def _answer(self) -> None:
        if self.away > 0:
            self.away -= 1
            raise requests.exceptions.ConnectionError("Connection aborted.")

    def create_host_config(self, **_: Any) -> dict[str, Any]:
        return {}

    def create_container(
        self, image: str, argv: list[str], *, name: str, labels: dict[str, str], **_: Any
    ) -> dict[str, str]:
        self.there[name] = labels
        self._answer()
        return {"Id": name}

    def prepare_model(self, made: dict[str, str]) -> SimpleNamespace:
        return SimpleNamespace(id=made["Id"])

    def remove_container(self, name: str, *, force: bool, v: bool) -> None:
        self._answer()
        with self._changed:
            del self.there[name]
            self._changed.notify_all()

    def is_emptied(self) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self.there, 30)
