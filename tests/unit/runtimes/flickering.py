"""Engines that answer again after a while, or late."""

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


class Slow(Flickering):
    """Removes nothing before `may_go_on` is set."""

    def __init__(self) -> None:
        super().__init__(away=0)
        self.may_go_on = threading.Event()
        self._waiting = 0

    def remove_container(self, name: str, *, force: bool, v: bool) -> None:
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
        assert self.may_go_on.wait(30)
        super().remove_container(name, force=force, v=v)

    def await_waiting(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._waiting >= count, 30)
