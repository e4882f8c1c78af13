"""The end of a container, waited for in a thread, and whether it was brought about from outside."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from typing import Any

from queue_runner.workers.runtimes.docker.events import EVENT_S, has_noted, let_go

#: Before any container: the engine tells what it has noted already, and then what comes.
_EVER = 1


class End(ABC):
    """`fileno` becomes readable with the end; `join` waits for it."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self._number = os.eventfd(0, os.EFD_CLOEXEC)
        self._lock, self._closed = threading.Lock(), False
        self._error: BaseException | None = None
        #: The exit code, as the engine names it.
        self.code = 0
        self._thread = threading.Thread(target=self._run, name="docker-wait", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self._number

    def _run(self) -> None:
        try:
            self.code = self._wait()
        except Exception as error:  # noqa: BLE001 - raised by the thread that waits for this one
            self._error = error
        finally:
            with self._lock:
                if not self._closed:
                    os.eventfd_write(self._number, 1)

    @abstractmethod
    def _wait(self) -> int: ...

    def join(self) -> BaseException | None:
        """Why it cannot be known, if so."""
        self._thread.join()
        return self._error

    def close(self) -> None:
        """Wait no longer, whether it has ended or not."""
        with self._lock:
            self._closed = True
            os.close(self._number)

    @property
    @abstractmethod
    def killed(self) -> bool:
        """Whether the engine was asked to send it a signal. After `join`."""


class Watched(End):
    """Of a container that is about to be started. All that the engine notes of it comes in one answer, in
    its order, so that nothing has to be asked at the end.
    """

    def __init__(self, container: Any) -> None:
        self.noted: set[str] = set()
        self._letting_go = threading.Lock()
        self._events = container.client.api.events(
            since=_EVER,
            filters={"container": container.id, "event": ["kill", "oom", "die"]},
            decode=True,
        )
        super().__init__(container)

    def _wait(self) -> int:
        try:
            for event in self._events:
                self.noted.add(event["Action"])
                if event["Action"] == "die":
                    return int(event["Actor"]["Attributes"]["exitCode"])
        finally:
            with self._letting_go:
                let_go(self._events)
        raise ConnectionError("the engine told no more of a container that had not ended")

    def close(self) -> None:
        super().close()
        # the thread ends with it
        with self._letting_go:
            self._events.close()

    @property
    def killed(self) -> bool:
        return "kill" in self.noted


class Waited(End):
    """Of a container that another worker has started, and that may have ended long ago."""

    def _wait(self) -> int:
        return int(self._container.wait(timeout=None)["StatusCode"])

    @property
    def killed(self) -> bool:
        self._container.reload()
        return has_noted(self._container, "kill", EVENT_S)
