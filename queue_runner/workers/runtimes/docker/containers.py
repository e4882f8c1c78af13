"""The containers of one worker, made and removed: whatever becomes of the engine meanwhile, none is left."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from queue_runner.errors import EngineRefused, EngineUnavailable
from queue_runner.images.engine import engine_errors
from queue_runner.workers.runtimes.docker.leftovers import remove_one

if TYPE_CHECKING:
    from docker import DockerClient

log = logging.getLogger("queue_runner.worker")

#: Seconds between two tries to remove what an engine that is away has left; doubled up to the second.
_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
#: Containers that have ended and are being removed while their jobs go on: an engine does several things at
#: a time, and one that is slow at it does not get far behind.
_MOST_BEHIND = 4

#: Of the settings, those that the engine's API takes for the container itself, not for its surroundings.
_ITS_OWN = (
    "user",
    "working_dir",
    "healthcheck",
    "entrypoint",
    "environment",
    "stdin_open",
)


class Containers:
    """labels: of all of them. Safe to use from several threads. What is left at `close` is for whoever
    removes containers by their labels.
    """

    def __init__(self, client: DockerClient, labels: Mapping[str, str]) -> None:
        self._client, self._labels = client, labels
        self._changed = threading.Condition()
        #: Names or ids of those to be removed when the engine is back.
        self._left: list[str] = []
        self._remover: threading.Thread | None = None
        self._closed = False
        self._behind = ThreadPoolExecutor(_MOST_BEHIND, "docker-remove-ended")
        self._places = threading.BoundedSemaphore(_MOST_BEHIND)

    def create(
        self, image: str, arguments: Sequence[str], labels: Mapping[str, str], **settings: Any
    ) -> Any:
        """A container, as `client.containers.create` makes one, which then asks the engine for all of it.

        Raises what the SDK does.
        """
        from docker.errors import APIError

        api = self._client.api
        its_own = {name: settings.pop(name) for name in _ITS_OWN if name in settings}
        host_config = api.create_host_config(**settings)
        # a name of ours: an engine that goes away before it answers may have made the container all the same
        name = f"queue-runner-{uuid.uuid4().hex}"
        try:
            made = api.create_container(
                image,
                list(arguments),
                name=name,
                labels={**self._labels, **labels},
                host_config=host_config,
                **its_own,
            )
        except APIError:
            raise
        except Exception:
            self._later(name)
            raise
        return self._client.containers.prepare_model({"Id": made["Id"]})

    def remove(self, container: Any) -> None:
        """Remove one, running or not; one whose engine is away, when that is back."""
        if not self._removed(str(container.id)):
            self._later(str(container.id))

    def remove_ended(self, container: Any) -> None:
        """The same of one that has ended, without waiting for it unless several are being removed already."""
        if self._places.acquire(blocking=False):
            self._behind.submit(self._remove_behind, container)
        else:
            self.remove(container)

    def _remove_behind(self, container: Any) -> None:
        try:
            self.remove(container)
        except Exception:
            # its job has its result by now
            log.exception("the container %s is left until this worker ends", container.id)
        finally:
            self._places.release()

    def _removed(self, name: str) -> bool:
        try:
            with engine_errors():
                remove_one(self._client, name)
        except (EngineUnavailable, EngineRefused) as error:
            log.debug("the container %s is not removed yet: %s", name, error)
            return False
        return True

    def _later(self, name: str) -> None:
        with self._changed:
            self._left.append(name)
            if self._remover is None and not self._closed:
                self._remover = threading.Thread(
                    target=self._remove_left, name="docker-remove", daemon=True
                )
                self._remover.start()

    def _remove_left(self) -> None:
        pause_s = _PAUSE_S
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._closed, pause_s):
                    return
                names = list(self._left)
            gone = {name for name in names if self._removed(name)}
            with self._changed:
                self._left = [name for name in self._left if name not in gone]
                if not self._left:
                    self._remover = None
                    return
            pause_s = _PAUSE_S if gone else min(2 * pause_s, _LONGEST_PAUSE_S)

    def close(self) -> None:
        self._behind.shutdown()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            remover = self._remover
        if remover is not None:
            remover.join()
