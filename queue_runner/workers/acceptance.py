"""What a worker accepts of what messages ask: its own rules, which no message can widen.

A rule is a list of patterns (`fnmatch`: `*`, `?`, `[...]`). Without a rule anything is accepted, but for
what is never lent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Self

from queue_runner.errors import FixThis, JobError
from queue_runner.model import Job, Reason

#: The host's own network is nobody's to have.
_NEVER = ("host",)
_NO_NETWORK = "none"
#: What a job may ask for its container; whatever else it says was meant to widen something.
_CONTAINER = ("network", "shm", "cpuset")


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The `[accept]` table of the configuration. None: no rule.

    images: names with tag, or digests (`sha256:...`), as the worker's own engine knows them: what a
    message calls its image proves nothing.
    """

    kinds: tuple[str, ...] | None = None
    images: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None
    runtimes: tuple[str, ...] | None = None

    @classmethod
    def of(cls, rules: Mapping[str, Sequence[str]]) -> Self:
        return cls(**{name: tuple(rule) for name, rule in rules.items()})

    def check_runtime(self, runtime: str) -> None:
        """Raises `FixThis` where this worker was not to be started with that runtime."""
        if not _matches(runtime, self.runtimes):
            raise FixThis(
                f"--runtime {runtime}: this host's configuration accepts only"
                f" {_list(self.runtimes)} (accept.runtimes)"
            )

    def check(self, job: Job) -> None:
        """Look at what the message says. Raises `JobError` (refused)."""
        if not _matches(job.kind, self.kinds):
            raise _refused("kind", job.kind, "kinds", self.kinds)
        unknown = sorted(set(job.container) - set(_CONTAINER))
        if unknown:
            raise JobError(
                Reason.REFUSED,
                f"the job asks for container settings that no job is given: {', '.join(unknown)}."
                f" There are {', '.join(_CONTAINER)}",
            )
        self._check_network(str(job.container.get("network") or _NO_NETWORK))

    def _check_network(self, network: str) -> None:
        if network == _NO_NETWORK:
            return
        if network in _NEVER:
            raise JobError(
                Reason.REFUSED, f"the job asks for the network {network!r}, which is never lent"
            )
        if not _matches(network, self.networks):
            raise _refused("network", network, "networks", self.networks)

    def check_image(self, asked: str | None, names: Sequence[str]) -> None:
        """names: what this host calls the image that the job asks for. Raises `JobError` (refused)."""
        if None in (asked, self.images) or any(_matches(name, self.images) for name in names):
            return
        known = f"{asked} (here: {', '.join(names) or 'unknown'})"
        raise _refused("image", known, "images", self.images)


#: The rules that there are, as the configuration names them.
RULES = tuple(each.name for each in fields(Acceptance))
ANYTHING = Acceptance()


def _matches(value: str, patterns: Sequence[str] | None) -> bool:
    return patterns is None or any(fnmatchcase(value, pattern) for pattern in patterns)


def _refused(what: str, asked: str, rule: str, patterns: Sequence[str] | None) -> JobError:
    return JobError(
        Reason.REFUSED,
        f"the job asks for the {what} {asked}, and this worker accepts {_list(patterns)}. Add it to"
        f" accept.{rule} in the worker's configuration, or send the job to another queue",
    )


def _list(patterns: Sequence[str] | None) -> str:
    return ", ".join(patterns or ()) or "none"
