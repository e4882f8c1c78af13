"""What the engine has of an image."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from queue_runner.images.build import Context, is_built

if TYPE_CHECKING:
    from docker import DockerClient


@dataclass(frozen=True, slots=True)
class ImageState:
    """state: "missing", "outdated" (its folder or base has changed since) or "built"."""

    tag: str
    state: str
    id: str | None = None
    size_bytes: int | None = None

    def record(self) -> dict[str, object]:
        return asdict(self)

    def line(self) -> str:
        size = f"{self.size_bytes / 1024**2:8.0f} MiB" if self.size_bytes else ""
        return f"{self.tag:32} {self.state:9}{size}  {self.id or ''}"


def state_of(client: DockerClient, context: Context) -> ImageState:
    from docker.errors import ImageNotFound

    try:
        image = client.images.get(context.tag)
    except ImageNotFound:
        return ImageState(context.tag, "missing")
    state = "built" if is_built(client, context) else "outdated"
    return ImageState(context.tag, state, str(image.id), int(image.attrs["Size"]))
