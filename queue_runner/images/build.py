"""Build an image from a folder, unless the engine has the one of just this content."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from queue_runner.errors import FixThis

if TYPE_CHECKING:
    from docker import DockerClient

#: SHA-256 of all that went into the image.
CONTENT_LABEL = "queue-runner.content"
#: The time, in seconds since 1970, of files that a build makes: the release of Debian 12. See
#: https://reproducible-builds.org/specs/source-date-epoch/
EPOCH_S = 1686355200
#: For people, not for the image.
_LEFT_OUT = {"README.md"}
_LAST_LINES = 15
#: What the engine says of the image that a step has come to.
_MADE = re.compile(r"\s*---> ([0-9a-f]{12})")


@dataclass(frozen=True, slots=True)
class Context:
    """What a build is given.

    bases: images that it stands on, by the Dockerfile's argument for them; files: name in the build's
    context to content.
    """

    tag: str
    bases: Mapping[str, str]
    files: Mapping[str, bytes]

    def content(self, base_ids: Mapping[str, str]) -> str:
        digest = hashlib.sha256()
        for name, value in sorted(base_ids.items()):
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
        content = context.content(_base_ids(client, context))
        return bool(client.images.get(context.tag).labels.get(CONTENT_LABEL) == content)
    except ImageNotFound:
        return False


def _base_ids(client: DockerClient, context: Context) -> dict[str, str]:
    return {name: str(client.images.get(tag).id) for name, tag in context.bases.items()}


def build(
    client: DockerClient,
    context: Context,
    say: Callable[[str], None],
    more: Mapping[str, bytes] | None = None,
) -> str:
    """The image's id; built where `is_built` says no.

    more: files that follow from those of the context, and so do not tell it from another.

    The images of `context.bases` have to be there. Raises `FixThis` with the last lines of a build that
    failed.
    """
    if not is_built(client, context):
        say(f"{context.tag}: building")
        _build(client, context, more or {}, context.tag)
    return str(client.images.get(context.tag).id)


def build_anew(
    client: DockerClient, context: Context, more: Mapping[str, bytes]
) -> tuple[str, set[str]]:
    """Build it though the engine has it, with nothing of its cache.

    Returns the tag of the other one, and the first 12 digits of the ids of all that was made on the way.
    """
    tag = f"{context.tag.rpartition(':')[0]}:built-again"
    return tag, _build(client, context, more, tag, cached=False)


def _build(
    client: DockerClient,
    context: Context,
    more: Mapping[str, bytes],
    tag: str,
    *,
    cached: bool = True,
) -> set[str]:
    """The short ids of the images that it made, one for each step."""
    content = context.content(_base_ids(client, context))
    lines: list[str] = []
    for line in client.api.build(
        fileobj=_archive({**context.files, **more}),
        custom_context=True,
        tag=tag,
        nocache=not cached,
        buildargs={**context.bases, "SOURCE_DATE_EPOCH": str(EPOCH_S), "CONTENT": content},
        labels={CONTENT_LABEL: content},
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
    return {found[1] for text in lines if (found := _MADE.fullmatch(text))}


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
