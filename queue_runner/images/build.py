"""Build an image from a folder, unless the engine has the one of just this content."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from queue_runner.errors import FixThis

if TYPE_CHECKING:
    from docker import DockerClient

#: SHA-256 of all that went into the image.
CONTENT_LABEL = "queue-runner.content"
#: For people, not for the image.
_LEFT_OUT = {"README.md", "Dockerfile.md"}
_LAST_LINES = 15


@dataclass(frozen=True, slots=True)
class Context:
    """What a build is given. files: name in the build's context to content."""

    tag: str
    base: str
    files: Mapping[str, bytes]
    arguments: Mapping[str, str] = field(default_factory=dict)

    def content(self, base_id: str) -> str:
        digest = hashlib.sha256(base_id.encode())
        for name, value in sorted(self.arguments.items()):
            digest.update(f"\0{name}={value}".encode())
        for name, data in sorted(self.files.items()):
            digest.update(f"\0{name}\0{len(data)}\0".encode() + data)
        return digest.hexdigest()


def folder_files(folder: Path, into: str = "") -> dict[str, bytes]:
    """The files of a folder as a build's context, `into` a folder of it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = (
        path for path in paths if path.name not in _LEFT_OUT and "__pycache__" not in path.parts
    )
    return {into + path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


def is_built(client: DockerClient, context: Context) -> bool:
    """Whether the engine has this image, made of this content on its present base."""
    from docker.errors import ImageNotFound

    try:
        base = client.images.get(context.base)
        image = client.images.get(context.tag)
    except ImageNotFound:
        return False
    return bool(image.labels.get(CONTENT_LABEL) == context.content(str(base.id)))


def build(client: DockerClient, context: Context, say: Callable[[str], None]) -> str:
    """The image's id; built where `is_built` says no.

    `context.base` has to be there; the Dockerfile gets its name as BASE. Raises `FixThis` with the last
    lines of a build that failed.
    """
    if not is_built(client, context):
        say(f"{context.tag}: building")
        _build(client, context)
    return str(client.images.get(context.tag).id)


def _build(client: DockerClient, context: Context) -> None:
    base_id = str(client.images.get(context.base).id)
    lines: list[str] = []
    for line in client.api.build(
        fileobj=_archive(context.files),
        custom_context=True,
        tag=context.tag,
        buildargs={"BASE": context.base, **context.arguments},
        labels={CONTENT_LABEL: context.content(base_id)},
        # an engine may have no route out of its own networks; the packages come from there
        network_mode="host",
        rm=True,
        forcerm=True,
        decode=True,
    ):
        lines.extend(_texts(line))
        if "error" in line:
            end = "\n".join(f"    {text}" for text in lines[-_LAST_LINES:])
            raise FixThis(f"{context.tag}: building the image failed. Its last lines:\n{end}")


def _texts(line: Mapping[str, object]) -> Iterator[str]:
    for key in ("stream", "status", "error"):
        if text := str(line.get(key) or "").rstrip():
            yield from text.splitlines()


def _archive(files: Mapping[str, bytes]) -> io.BytesIO:
    """A tar that depends on names and content only, so that the engine's own cache is hit."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o755 if data.startswith(b"#!") else 0o644
            tar.addfile(info, io.BytesIO(data))
    out.seek(0)
    return out
