"""Whether an image comes out the same when it is built again: every file, its rights and its time."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, cast

from queue_runner.errors import FixThis
from queue_runner.images.build import Context, build_anew, is_built

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of an image. content: SHA-256 of a file, the target of a link, else empty."""

    kind: str
    mode: int
    owner: tuple[int, int]
    mtime_s: int
    content: str


@dataclass(frozen=True, slots=True)
class Difference:
    """what: "only first", "only second", "content", "rights" or "time", the gravest that it is."""

    path: str
    what: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """same_layers: how many of its layers, from the first on, have the same digest.

    files: how many paths there are in the others, of which `differences` differ.
    """

    tag: str
    layers: int
    same_layers: int
    files: int
    differences: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        return not self.differences

    def record(self) -> dict[str, object]:
        return {**asdict(self), "same": self.same}

    def lines(self) -> list[str]:
        head = f"{self.tag}: {self.same_layers} of {self.layers} layers have the same digest"
        if self.same:
            # the order of files, or more exact times, may still tell two layers apart
            rest = f"; {self.files} files in the others, all the same" if self.files else ""
            return [f"{head}{rest}"]
        count = len(self.differences)
        shown = [f"    {each.what:12} /{each.path}" for each in self.differences[:_SHOWN]]
        more = [f"    ... and {count - _SHOWN} more; --json lists all"] if count > _SHOWN else []
        head = f"{head}; {count} of {self.files} files in the others differ"
        return [head, *shown, *more]


def verify(
    client: DockerClient, context: Context, more: Mapping[str, bytes], say: Callable[[str], None]
) -> Comparison:
    """Build the image of `context` again, with nothing of the engine's cache, and compare.

    `more`: as for `build`. Raises `FixThis` where the engine does not have it, made of this content.
    """
    if not is_built(client, context):
        name = context.tag.partition("/")[2].partition(":")[0]
        raise FixThis(
            f"{context.tag}: the engine has none of the present content to compare with;"
            f" `queue-runner image build {name}` makes it"
        )
    say(f"{context.tag}: building it again")
    before = _stages(client)
    again, made = build_anew(client, context, more)
    try:
        first, second = client.images.get(context.tag), client.images.get(again)
        digests = [image.attrs["RootFS"]["Layers"] for image in (first, second)]
        same = 0
        while same < min(map(len, digests)) and digests[0][same] == digests[1][same]:
            same += 1
        one, other = (_entries(image, same) for image in (first, second))
        return Comparison(context.tag, len(digests[0]), same, len(one), tuple(compare(one, other)))
    finally:
        _remove(client, again, force=True)
        for stage in _stages(client) - before:
            # one that another build has just made, and needs, is none of ours
            if _short(stage) in made:
                _remove(client, stage)


def compare(first: Mapping[str, Entry], second: Mapping[str, Entry]) -> Iterable[Difference]:
    """In the order of paths."""
    for path in sorted(first.keys() | second.keys()):
        one, other = first.get(path), second.get(path)
        if one == other:
            continue
        if other is None:
            yield Difference(path, "only first")
        elif one is None:
            yield Difference(path, "only second")
        elif (one.kind, one.content) != (other.kind, other.content):
            yield Difference(path, "content")
        elif (one.mode, one.owner) != (other.mode, other.owner):
            yield Difference(path, "rights")
        else:
            yield Difference(path, "time")


def read_entries(archive: IO[bytes]) -> dict[str, Entry]:
    """The paths in a tar."""
    found: dict[str, Entry] = {}
    with tarfile.open(fileobj=archive, mode="r|") as tar:
        for member in tar:
            content = member.linkname
            if member.isfile() and (file := tar.extractfile(member)) is not None:
                # what it is in truth, which typeshed does not say
                reader = cast("io.BufferedReader", file)
                content = hashlib.file_digest(reader, "sha256").hexdigest()
            found[member.name.removeprefix("./")] = Entry(
                member.type.decode(),
                member.mode,
                (member.uid, member.gid),
                int(member.mtime),
                content,
            )
    return found


def _stages(client: DockerClient) -> set[str]:
    """Images without a name, such as a build leaves of its earlier stages."""
    # `client.images.list` looks at each of them, and one may be gone by then
    return {str(image) for image in client.api.images(filters={"dangling": True}, quiet=True)}


def _short(image: str) -> str:
    return image.removeprefix("sha256:")[:12]


def _remove(client: DockerClient, image: str, force: bool = False) -> None:
    from docker.errors import APIError

    try:
        client.images.remove(image, force=force)
    except APIError as error:
        # gone with the one that stood on it, removed by somebody, or somebody else's build is using it
        if error.status_code not in (404, 409):
            raise


def _entries(image: Image, skipped: int) -> dict[str, Entry]:
    """The paths in all but the first layers of an image; what is in later ones replaces."""
    found: dict[str, Entry] = {}
    with tempfile.TemporaryFile() as saved:
        for piece in cast("Iterator[bytes]", image.save()):
            saved.write(piece)
        saved.seek(0)
        with tarfile.open(fileobj=saved) as tar:
            for name in _layers(tar)[skipped:]:
                found |= read_entries(_member(tar, name))
    return found


def _layers(tar: tarfile.TarFile) -> list[str]:
    """As the Docker image specification v1.2 has them in manifest.json, the lowest first."""
    (manifest,) = json.load(_member(tar, "manifest.json"))
    return [str(name) for name in manifest["Layers"]]


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    file = tar.extractfile(name)
    if file is None:
        raise FixThis(f"the engine's copy of an image has no {name}")
    return file
