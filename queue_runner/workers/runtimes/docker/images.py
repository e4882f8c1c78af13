"""Which image a job runs in, and whether this engine has the very one that was meant."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from queue_runner.errors import FixThis, JobError
from queue_runner.images.engine import engine_errors
from queue_runner.model import Job, Reason

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

#: For jobs that name no image: by kind, and for all other kinds.
DEFAULTS = {"openfoam": "queue-runner/openfoam:latest", "mpi": "queue-runner/mpi:latest"}
DEFAULT = "queue-runner/base:latest"
#: Seconds for which an image is what its name meant.
_FRESH_S = 1.0


def pin(client: DockerClient, image: str) -> str:
    """`image` with the digest that its tag means in this engine: `name:tag@sha256:...`.

    For an image that was built here, and never in a registry, that is the image's id. One that has a
    digest already stays as it is. Raises `FixThis` where there is no such image.
    """
    from docker.errors import DockerException, ImageNotFound

    if "@" in image:
        return image
    try:
        with engine_errors():
            found = client.images.get(image)
    except ImageNotFound as error:
        raise FixThis(f"{image}: {_not_here(image)}") from error
    except DockerException as error:
        raise FixThis(f"{image}: {error}") from error
    return f"{image}@{_digests(found, repository(image))[0]}"


class Images:
    """`of` a job. default: for jobs that name none, instead of that of their kind.

    The engine is asked once a second, not several times for every job.
    """

    def __init__(self, client: DockerClient, default: str | None) -> None:
        self._client, self._default = client, default
        self._known: dict[str, tuple[float, Image]] = {}

    def of(self, job: Job) -> Image:
        """Raises `JobError` (image) where this engine has none, or another one."""
        wanted = job.image or self._default or DEFAULTS.get(job.kind, DEFAULT)
        now = time.monotonic()
        known = self._known.get(wanted)
        if known is None or now - known[0] > _FRESH_S:
            known = now, _found(self._client, wanted)
            self._known[wanted] = known
        return known[1]


def _found(client: DockerClient, wanted: str) -> Image:
    from docker.errors import DockerException, ImageNotFound

    tag, _, digest = wanted.partition("@")
    try:
        with engine_errors():
            if digest:
                return _pinned(client, tag, digest)
            return client.images.get(tag)
    except ImageNotFound as error:
        raise JobError(Reason.IMAGE, f"image {wanted}: {_not_here(tag)}") from error
    except DockerException as error:
        raise JobError(Reason.IMAGE, f"image {wanted}: {error}") from error


def _pinned(client: DockerClient, tag: str, digest: str) -> Image:
    from docker.errors import ImageNotFound

    # by its id, or as a registry names it; the tag may have moved on since
    for reference in (digest, f"{repository(tag)}@{digest}"):
        try:
            found = client.images.get(reference)
        except ImageNotFound:
            continue
        if digest in _digests(found, repository(tag)):
            return found
    try:
        other = client.images.get(tag)
    except ImageNotFound:
        raise ImageNotFound(tag) from None
    raise JobError(
        Reason.IMAGE,
        f"image {tag}: the study was submitted with {digest}, and this worker's engine has"
        f" {other.id} under that tag. Bring the same image here (docker save, docker load), or submit"
        " the study again to use this one",
    )


def repository(image: str) -> str:
    """`localhost:5000/name` of `localhost:5000/name:tag`: only after the last slash a colon is a tag's."""
    path, slash, last = image.partition("@")[0].rpartition("/")
    return f"{path}{slash}{last.partition(':')[0]}"


def _digests(image: Image, name: str) -> list[str]:
    """As the registry of this repository knows it, then its own id."""
    known = (each.partition("@") for each in image.attrs.get("RepoDigests") or [])
    return [*(digest for at, _, digest in known if _short(at) == _short(name)), str(image.id)]


def names_of(image: Image) -> list[str]:
    """Its tags, and its digests with and without the repository that knows them."""
    known = image.attrs.get("RepoDigests") or []
    return [*image.tags, *known, *(each.partition("@")[2] for each in known), str(image.id)]


def _short(name: str) -> str:
    """As engines list the repositories of Docker Hub."""
    return name.removeprefix("docker.io/").removeprefix("library/")


def _not_here(image: str) -> str:
    name = repository(image)
    if name.startswith("queue-runner/"):
        return f"not in this Docker engine; `queue-runner image build {name.partition('/')[2]}` makes it"
    return f"not in this Docker engine; `docker pull {image}` or `docker load` brings it"
