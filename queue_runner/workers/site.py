"""Where a job's programs are: this host, or the image that its containers are made of.

Kinds look for solvers and launchers through `current()`, and so find what will really run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_ANSWER_S = 60.0


class Site(ABC):
    """Hashable: what was found out about a site is remembered."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Different for sites with different programs."""

    @property
    @abstractmethod
    def variables(self) -> Mapping[str, str]:
        """The environment that programs start with there."""

    @abstractmethod
    def which(self, name: str, path: str | None = None) -> str | None:
        """The program's path; `path` is a PATH other than that of `variables`."""

    @abstractmethod
    def is_file(self, path: str) -> bool: ...

    @abstractmethod
    def newest(self, pattern: str) -> str | None:
        """The last, in the order of names, of the paths that a glob pattern matches."""

    @abstractmethod
    def ask(self, argv: Sequence[str]) -> str:
        """All that a short program prints. Raises `OSError` where it cannot be run."""

    @property
    @abstractmethod
    def root(self) -> bool:
        """Whether programs run as root there."""


class Host(Site):
    @property
    def name(self) -> str:
        return "host"

    @property
    def variables(self) -> Mapping[str, str]:
        return os.environ

    def which(self, name: str, path: str | None = None) -> str | None:
        return shutil.which(name, path=path)

    def is_file(self, path: str) -> bool:
        return Path(path).is_file()

    def newest(self, pattern: str) -> str | None:
        found = Path("/").glob(pattern.lstrip("/"))
        return max(map(str, found), default=None)

    def ask(self, argv: Sequence[str]) -> str:
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=_ANSWER_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise OSError(f"{argv[0]} does not answer within {_ANSWER_S:g} s") from error
        return done.stdout.decode(errors="replace")

    @property
    def root(self) -> bool:
        return os.geteuid() == 0


HOST = Host()
_current: ContextVar[Site] = ContextVar("site", default=HOST)


def current() -> Site:
    """The site of the attempt that this thread is working on."""
    return _current.get()


@contextmanager
def at(site: Site) -> Iterator[None]:
    token = _current.set(site)
    try:
        yield
    finally:
        _current.reset(token)
