"""What an image has inside, found out by asking short containers of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from queue_runner.images.engine import engine_errors
from queue_runner.workers.runtimes.docker.containers import Containers
from queue_runner.workers.runtimes.docker.settings import bare
from queue_runner.workers.site import Site

if TYPE_CHECKING:
    from docker.models.images import Image

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LIST = 'IFS=:; for d in $1; do for f in "$d"/*; do [ -f "$f" ] && [ -x "$f" ] && echo "$f"; done; done; true'
_ANSWER_S = 60
#: Exit codes of the engine's init for a program that is not there, or not executable.
_NOT_STARTED = (126, 127)


class ImageSite(Site):
    """One for each image, kept: what it was asked is remembered with it."""

    def __init__(self, containers: Containers, image: Image) -> None:
        self._containers, self._image = containers, image
        self._programs: dict[str, frozenset[str]] = {}

    @property
    def name(self) -> str:
        return str(self._image.id)

    @cached_property
    def variables(self) -> Mapping[str, str]:
        entries = self._image.attrs["Config"].get("Env") or []
        return {"PATH": _DEFAULT_PATH, **dict(entry.split("=", 1) for entry in entries)}

    def which(self, name: str, path: str | None = None) -> str | None:
        try:
            folders = (path or self.variables["PATH"]).split(":")
            return next((f"{at}/{name}" for at in folders if f"{at}/{name}" in self._in(at)), None)
        except OSError:
            # an image without a shell cannot be asked; what is not there shows when it is started
            return name

    def _in(self, folder: str) -> frozenset[str]:
        if folder not in self._programs:
            # all of the usual ones at once: each question takes a container
            usual = self.variables["PATH"]
            asked = usual if folder in usual.split(":") else folder
            listed = self.ask(["sh", "-c", _LIST, "sh", asked]).split("\n")
            for each in asked.split(":"):
                inside = (path for path in listed if path.rpartition("/")[0] == each)
                self._programs[each] = frozenset(inside)
        return self._programs[folder]

    def is_file(self, path: str) -> bool:
        return self._test("-f", path)

    def _test(self, how: str, path: str) -> bool:
        script = 'if [ "$1" "$2" ]; then echo yes; fi'
        return self.ask(["sh", "-c", script, "sh", how, path]).strip() == "yes"

    def newest(self, pattern: str) -> str | None:
        script = 'for f in $1; do [ -e "$f" ] && echo "$f"; done; true'
        return max(self.ask(["sh", "-c", script, "sh", pattern]).split("\n"), default="") or None

    def ask(self, argv: Sequence[str]) -> str:
        with engine_errors():
            return self._asked(argv)

    def _asked(self, argv: Sequence[str]) -> str:
        from docker.errors import APIError

        container = self._containers.create(self.name, argv[1:], {}, entrypoint=[argv[0]], **bare())
        try:
            container.start()
            code = int(container.wait(timeout=_ANSWER_S)["StatusCode"])
            output: bytes = container.logs()
        except APIError as error:
            if (error.status_code or 500) >= 500:
                raise
            raise OSError(
                f"{argv[0]} cannot be run in {self._image.id}: {error.explanation}"
            ) from error
        finally:
            self._containers.remove(container)
        if code in _NOT_STARTED:
            raise OSError(f"{argv[0]} cannot be run in {self.name}")
        return output.decode(errors="replace")

    @property
    def root(self) -> bool:
        return False
